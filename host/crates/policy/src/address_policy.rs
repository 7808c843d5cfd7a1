//! Which addresses a granted name may stand for.
//!
//! An operator grants names, and whoever answers for a name decides what address it stands for: also
//! that of a machine in the operator's own network. So the address is judged as well, by what kind it
//! is, at every dial.

use crate::HostPort;
use AddressKind as Kind;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// What kind of address it is, as far as reaching it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// Anybody's, on the internet.
    Public,
    /// This machine's own.
    Loopback,
    /// A local network's (RFC 1918, or a unique local one of IPv6).
    Private,
    /// Of the network at the other end of the cable.
    LinkLocal,
    /// Where clouds hand out credentials.
    Metadata,
    /// Behind a carrier's NAT (RFC 6598).
    CarrierNat,
    /// None in particular, which often means this machine.
    Unspecified,
    /// Of a group of machines.
    Multicast,
    /// Of all machines of a network.
    Broadcast,
    /// For texts.
    Documentation,
    /// For measuring networks.
    Benchmarking,
    /// Of a local network, in a form that is given up.
    SiteLocal,
    /// An IPv4 address in the clothes of an IPv6 one. No name server has a reason to answer it.
    Mapped,
    /// Reached through a tunnel (6to4, Teredo) or a translation of one's own (`64:ff9b:1::/48`), which
    /// hide what is at their end.
    Tunnel,
    /// Anything else that nobody on the internet has.
    Reserved,
}

/// The kinds of IPv4 addresses that are not public; the first that fits counts.
/// <https://www.iana.org/assignments/iana-ipv4-special-registry>, and what clouds use.
const V4: [(Ipv4Net, Kind); 22] = [
    // Amazon, Google, Microsoft, Oracle and many more; Amazon's containers; Alibaba; Oracle; Microsoft.
    (v4([169, 254, 169, 254], 32), Kind::Metadata),
    (v4([169, 254, 170, 2], 32), Kind::Metadata),
    (v4([169, 254, 170, 23], 32), Kind::Metadata),
    (v4([100, 100, 100, 200], 32), Kind::Metadata),
    (v4([192, 0, 0, 192], 32), Kind::Metadata),
    (v4([168, 63, 129, 16], 32), Kind::Metadata),
    (v4([0, 0, 0, 0], 8), Kind::Unspecified),
    (v4([10, 0, 0, 0], 8), Kind::Private),
    (v4([172, 16, 0, 0], 12), Kind::Private),
    (v4([192, 168, 0, 0], 16), Kind::Private),
    (v4([100, 64, 0, 0], 10), Kind::CarrierNat),
    (v4([127, 0, 0, 0], 8), Kind::Loopback),
    (v4([169, 254, 0, 0], 16), Kind::LinkLocal),
    (v4([192, 0, 0, 0], 24), Kind::Reserved),
    (v4([192, 0, 2, 0], 24), Kind::Documentation),
    (v4([198, 51, 100, 0], 24), Kind::Documentation),
    (v4([203, 0, 113, 0], 24), Kind::Documentation),
    (v4([192, 88, 99, 0], 24), Kind::Tunnel),
    (v4([198, 18, 0, 0], 15), Kind::Benchmarking),
    (v4([224, 0, 0, 0], 4), Kind::Multicast),
    (v4([255, 255, 255, 255], 32), Kind::Broadcast),
    (v4([240, 0, 0, 0], 4), Kind::Reserved),
];

/// The kinds of IPv6 addresses; the first that fits counts, and what fits none is reserved.
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>, and what clouds use.
const V6: [(Ipv6Net, Kind); 21] = [
    // Amazon; Google.
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), Kind::Metadata),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], 128), Kind::Metadata),
    (v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), Kind::Metadata),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), Kind::Metadata),
    (v6([0; 8], 128), Kind::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Kind::Loopback),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), Kind::Mapped),
    (v6([0; 8], 96), Kind::Mapped),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), Kind::Tunnel),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), Kind::Tunnel),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), Kind::Benchmarking),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), Kind::Reserved),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), Kind::Documentation),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), Kind::Tunnel),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), Kind::Documentation),
    (v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3), Kind::Public),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), Kind::Private),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Kind::LinkLocal),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), Kind::SiteLocal),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Kind::Multicast),
    (v6([0; 8], 0), Kind::Reserved),
];

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length)
}

/// What networks that speak IPv6 alone reach IPv4 through (RFC 6052).
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

impl AddressKind {
    /// The kind of an address; of the one inside, where it stands for one by NAT64.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        let kind = match reached(address) {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => {
                let kind = V6.iter().find(|(net, _)| net.contains(&address)).map(|it| it.1);
                let inside = address.to_ipv4_mapped().and_then(Self::of_v4);
                inside.filter(|inside| *inside == Self::Metadata).or(kind)
            }
        };
        kind.unwrap_or(Self::Public)
    }

    fn of_v4(address: Ipv4Addr) -> Option<Self> {
        V4.iter().find(|(net, _)| net.contains(&address)).map(|it| it.1)
    }
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "a public address",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "the address of a cloud's metadata",
            Self::CarrierNat => "an address behind a carrier's NAT",
            Self::Unspecified => "an unspecified address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
            Self::Documentation => "an address for documentation",
            Self::Benchmarking => "an address for benchmarks",
            Self::SiteLocal => "a site-local address",
            Self::Mapped => "an IPv4 address written as one of IPv6",
            Self::Tunnel => "an address behind a tunnel",
            Self::Reserved => "a reserved address",
        })
    }
}

/// The address that is reached in the end. A name server of a network without IPv4 makes NAT64's
/// addresses of ordinary answers, so they are judged, and allowed, by what is inside.
fn reached(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if NAT64.contains(&v6) => {
            let [.., a, b, c, d] = v6.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        other => other,
    }
}

/// Addresses that an operator allows names to stand for: one, a network of them, or `private`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressRange {
    /// A network; of its full length for a single address.
    Net(IpNet),
    /// All private ones: of RFC 1918, and the unique local ones of IPv6.
    Private,
}

impl AddressRange {
    fn holds(self, address: IpAddr, kind: AddressKind) -> bool {
        match self {
            // Who allows a network means its machines, not the credentials that are handed out in it.
            Self::Net(net) if kind == Kind::Metadata => net == IpNet::from(address),
            Self::Net(net) => net.contains(&address),
            Self::Private => kind == Kind::Private,
        }
    }
}

/// Not an address, a network or `private`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address (10.0.0.7), a network (10.0.0.0/8) or `private`")]
pub struct AddressRangeError(String);

impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "private" {
            return Ok(Self::Private);
        }
        let address = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let net = address.map(IpNet::from).or_else(|_| text.parse::<IpNet>());
        net.map(|net| Self::Net(net.trunc())).map_err(|_| AddressRangeError(text.into()))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Net(net) => net.fmt(f),
            Self::Private => f.write_str("private"),
        }
    }
}

/// Which addresses may be connected to: public ones, and those that an operator names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AddressPolicy {
    allowed: BTreeSet<AddressRange>,
}

/// A name stands for an address that it may not stand for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "refused to connect to `{to}`: the name stands for {address}, {kind}; \
     `--allow-address {}` would allow it",
    reached(*.address)
)]
pub struct RefusedAddress {
    /// What was to be connected to.
    pub to: HostPort,
    /// The address that was found for it.
    pub address: IpAddr,
    /// Why it is refused.
    pub kind: AddressKind,
}

impl AddressPolicy {
    /// Allows further addresses.
    pub fn allow(&mut self, range: AddressRange) {
        self.allowed.insert(range);
    }

    /// Whether a granted host may stand for an address.
    ///
    /// # Errors
    ///
    /// [`RefusedAddress`], unless the address is public, or the host is that very address, or
    /// `localhost` and the address is loopback, or the address is allowed.
    pub fn check(&self, to: &HostPort, address: IpAddr) -> Result<(), RefusedAddress> {
        if to.address() == Some(address) {
            return Ok(());
        }
        let (kind, reached) = (AddressKind::of(address), reached(address));
        let may = match kind {
            Kind::Public => true,
            Kind::Loopback if to.is_localhost() && reached == address => true,
            _ => self.allowed.iter().any(|range| range.holds(reached, kind)),
        };
        if may { Ok(()) } else { Err(RefusedAddress { to: to.clone(), address, kind }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|_| panic!("{text} is not an address"))
    }

    fn to(host: &str) -> HostPort {
        HostPort::new(host, 80).unwrap_or_else(|error| panic!("{error}"))
    }

    fn allowing(ranges: &[&str]) -> AddressPolicy {
        let mut policy = AddressPolicy::default();
        for range in ranges {
            policy.allow(range.parse().unwrap_or_else(|error| panic!("{error}")));
        }
        policy
    }

    #[test]
    fn each_address_has_its_kind() {
        let table: [(Kind, &[&str]); 16] = [
            (
                Kind::Public,
                &["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"],
            ),
            (Kind::Public, &["172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0"]),
            (Kind::Public, &["2606:4700::1111", "2001:200::1", "64:ff9b::1.1.1.1"]),
            (Kind::Loopback, &["127.0.0.1", "127.255.255.254", "::1", "64:ff9b::127.0.0.1"]),
            (Kind::Private, &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1"]),
            (Kind::Private, &["fc00::1", "fdff::1", "64:ff9b::10.0.0.1"]),
            (Kind::LinkLocal, &["169.254.0.1", "fe80::1", "febf::1", "64:ff9b::a9fe:1"]),
            (Kind::Metadata, &["169.254.169.254", "169.254.170.2", "169.254.170.23"]),
            (Kind::Metadata, &["100.100.100.200", "192.0.0.192", "168.63.129.16"]),
            (Kind::Metadata, &["fd00:ec2::23", "fd00:42::42", "::ffff:169.254.169.254"]),
            (Kind::Metadata, &["fd00:ec2::254", "fd20:ce::254", "64:ff9b::169.254.169.254"]),
            (Kind::CarrierNat, &["100.64.0.1", "100.127.255.255"]),
            (Kind::Unspecified, &["0.0.0.0", "0.1.2.3", "::"]),
            (Kind::Multicast, &["224.0.0.1", "239.255.255.255", "ff02::1"]),
            (Kind::Benchmarking, &["198.18.0.1", "198.19.255.255", "2001:2::1"]),
            (Kind::Documentation, &["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1"]),
        ];
        let strange: [(Kind, &[&str]); 5] = [
            (Kind::Broadcast, &["255.255.255.255"]),
            (Kind::SiteLocal, &["fec0::1"]),
            (Kind::Mapped, &["::ffff:1.1.1.1", "::ffff:127.0.0.1", "::1.1.1.1", "::2"]),
            (Kind::Tunnel, &["2002:7f00:1::", "2001::1", "64:ff9b:1::1", "192.88.99.1"]),
            (Kind::Reserved, &["240.0.0.1", "192.0.0.1", "100::1", "4000::1", "64:ff9b:2::1"]),
        ];
        for (kind, addresses) in table.into_iter().chain(strange) {
            for address in addresses {
                assert_eq!(AddressKind::of(ip(address)), kind, "{address}");
            }
        }
    }

    #[test]
    fn a_name_may_stand_for_public_addresses_alone() {
        let policy = AddressPolicy::default();
        assert_eq!(policy.check(&to("example.com"), ip("1.1.1.1")), Ok(()));
        for address in ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "::ffff:1.1.1.1"] {
            let refused = policy.check(&to("example.com"), ip(address));
            assert!(refused.is_err(), "{address}");
        }
    }

    #[test]
    fn an_address_that_is_granted_as_such_may_be_reached_in_that_very_form() {
        let policy = AddressPolicy::default();
        for address in ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fd00::1"] {
            assert_eq!(policy.check(&to(address), ip(address)), Ok(()), "{address}");
        }
        assert_eq!(policy.check(&to("0x7f000001"), ip("127.0.0.1")), Ok(()));
        assert!(policy.check(&to("10.0.0.1"), ip("::ffff:10.0.0.1")).is_err());
        assert!(policy.check(&to("10.0.0.1"), ip("10.0.0.2")).is_err());
    }

    #[test]
    fn localhost_is_this_machine_and_nothing_else() {
        let policy = AddressPolicy::default();
        for name in ["localhost", "LOCALHOST.", "db.localhost"] {
            assert_eq!(policy.check(&to(name), ip("127.0.0.1")), Ok(()), "{name}");
            assert_eq!(policy.check(&to(name), ip("::1")), Ok(()), "{name}");
            for other in ["10.0.0.1", "64:ff9b::127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0"] {
                assert!(policy.check(&to(name), ip(other)).is_err(), "{name} {other}");
            }
        }
        assert!(policy.check(&to("notlocalhost"), ip("127.0.0.1")).is_err());
        assert!(policy.check(&to("localhost.example.com"), ip("127.0.0.1")).is_err());
    }

    #[test]
    fn what_is_allowed_is_allowed_for_every_name_and_not_in_disguise() {
        let cases: [(&str, &[&str], &[&str]); 6] = [
            ("10.0.0.7", &["10.0.0.7", "64:ff9b::10.0.0.7"], &["10.0.0.8", "::ffff:10.0.0.7"]),
            ("10.0.0.0/24", &["10.0.0.1", "10.0.0.255"], &["10.0.1.0", "127.0.0.1"]),
            ("fd00::/8", &["fd12::1"], &["fc00::1", "fd00:ec2::254"]),
            ("private", &["10.0.0.1", "192.168.1.1", "fd00::1"], &["127.0.0.1", "100.64.0.1"]),
            ("private", &[], &["fd00:ec2::254", "169.254.169.254", "64:ff9b:1::1"]),
            ("169.254.169.254", &["169.254.169.254"], &["169.254.0.1", "::ffff:a9fe:a9fe"]),
        ];
        for (range, allowed, refused) in cases {
            let policy = allowing(&[range]);
            for address in allowed {
                assert_eq!(policy.check(&to("db"), ip(address)), Ok(()), "{range} {address}");
            }
            for address in refused {
                assert!(policy.check(&to("db"), ip(address)).is_err(), "{range} {address}");
            }
        }
        let policy = allowing(&["169.254.0.0/16", "0.0.0.0/0"]);
        assert!(policy.check(&to("db"), ip("169.254.169.254")).is_err(), "not by its network");
    }

    #[test]
    fn a_refusal_says_what_was_found_and_what_would_allow_it() {
        let refused = |address| match AddressPolicy::default().check(&to("db.example"), ip(address))
        {
            Ok(()) => panic!("{address} was allowed"),
            Err(refused) => refused.to_string(),
        };
        assert_eq!(
            refused("10.0.0.7"),
            "refused to connect to `db.example:80`: the name stands for 10.0.0.7, a private address; \
             `--allow-address 10.0.0.7` would allow it"
        );
        assert!(
            refused("64:ff9b::10.0.0.7").ends_with("`--allow-address 10.0.0.7` would allow it")
        );
    }

    #[test]
    fn ranges_are_shown_as_they_may_be_written() {
        for range in ["10.0.0.7", "10.0.0.0/8", "fd00::1", "fd00::/8", "private"] {
            let parsed = range.parse::<AddressRange>().map(|range| range.to_string());
            assert_eq!(parsed, Ok(range.into()));
        }
        assert_eq!("[::1]".parse(), Ok(AddressRange::Net(IpNet::from(ip("::1")))));
        for wrong in ["", "db", "10.0.0.0/33", "10.0.0", "Private"] {
            assert!(wrong.parse::<AddressRange>().is_err(), "{wrong}");
        }
    }
}
