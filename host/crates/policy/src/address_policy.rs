//! Address policy: which resolved addresses may be dialled (SSRF protection).
//!
//! A grant names a host, and the DNS server of that host decides to which address the name resolves. That may be
//! an address in the operator's own network. The policy therefore checks each resolved address before each dial.
//! It classifies the address by the IANA special-purpose registries, allows public addresses, and denies all
//! others unless the operator allows them.

use crate::normalized_host::HostPort;
use AddressKind as Kind;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Kind of an IP address, by the network that contains the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// Globally reachable unicast address.
    Public,
    /// Loopback address (`127.0.0.0/8`, `::1`).
    Loopback,
    /// Address of a private network (RFC 1918), or a unique local IPv6 address (RFC 4193).
    Private,
    /// Link-local address (`169.254.0.0/16`, `fe80::/10`).
    LinkLocal,
    /// Address of a cloud provider's metadata service, which hands out credentials.
    Metadata,
    /// Shared address space of carrier-grade NAT (RFC 6598).
    CarrierNat,
    /// Unspecified address (`0.0.0.0/8`, `::`). Many systems connect to the loopback interface instead.
    Unspecified,
    /// Multicast address.
    Multicast,
    /// Limited broadcast address (`255.255.255.255`).
    Broadcast,
    /// Address reserved for documentation (RFC 5737, RFC 3849, RFC 9637).
    Documentation,
    /// Address reserved for benchmarks of networks (RFC 2544, RFC 5180).
    Benchmarking,
    /// Site-local IPv6 address (`fec0::/10`), deprecated by RFC 3879.
    SiteLocal,
    /// IPv4-mapped IPv6 address (`::ffff:0:0/96`), or its deprecated predecessor, an IPv4-compatible one
    /// (`::/96`). A regular DNS answer contains neither.
    Mapped,
    /// Address of a tunnel (6to4, Teredo) or of a local NAT64 prefix (`64:ff9b:1::/48`). The policy cannot check
    /// the address behind the tunnel or the NAT64 gateway.
    Tunnel,
    /// Any other address that is not globally reachable.
    Reserved,
}

/// Kinds of the IPv4 networks that are not public. The first network that contains an address decides.
///
/// Sources: <https://www.iana.org/assignments/iana-ipv4-special-registry>, and the metadata services that cloud
/// providers document.
const NON_PUBLIC_V4_NETS: [(Ipv4Net, Kind); 22] = [
    // Metadata services, in this order: Amazon, Google, Microsoft, Oracle and many more; Amazon ECS; Amazon EKS;
    // Alibaba; Oracle; Microsoft.
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

/// Kinds of all IPv6 networks. The first network that contains an address decides; the last entry contains all
/// addresses.
///
/// Sources: <https://www.iana.org/assignments/iana-ipv6-special-registry>, and the metadata services that cloud
/// providers document.
const V6_NETS: [(Ipv6Net, Kind); 21] = [
    // Metadata services, in this order: Amazon EC2; Amazon EKS; Scaleway; Google.
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

/// Well-known NAT64 prefix (RFC 6052), through which IPv6-only networks reach IPv4 addresses.
const NAT64_PREFIX: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

impl AddressKind {
    /// Returns the kind of an address. A NAT64 address has the kind of the IPv4 address that it embeds. The
    /// IPv4-mapped address of a metadata service has the kind [`Self::Metadata`].
    #[must_use]
    pub fn classify(address: IpAddr) -> Self {
        let kind = match translate_nat64(address) {
            IpAddr::V4(address) => Self::non_public_v4(address),
            IpAddr::V6(address) => {
                let kind = V6_NETS.iter().find(|(net, _)| net.contains(&address)).map(|it| it.1);
                let mapped = address.to_ipv4_mapped().and_then(Self::non_public_v4);
                mapped.filter(|mapped| *mapped == Self::Metadata).or(kind)
            }
        };
        kind.unwrap_or(Self::Public)
    }

    /// Returns the kind of an IPv4 address; `None` if it is public.
    fn non_public_v4(address: Ipv4Addr) -> Option<Self> {
        NON_PUBLIC_V4_NETS.iter().find(|(net, _)| net.contains(&address)).map(|it| it.1)
    }
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "a public address",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud metadata address",
            Self::CarrierNat => "a carrier-grade NAT address",
            Self::Unspecified => "an unspecified address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
            Self::Documentation => "a documentation address",
            Self::Benchmarking => "a benchmarking address",
            Self::SiteLocal => "a site-local address",
            Self::Mapped => "an IPv4-mapped or IPv4-compatible IPv6 address",
            Self::Tunnel => "a tunnel or local NAT64 address",
            Self::Reserved => "a reserved address",
        })
    }
}

/// Returns the IPv4 address that a NAT64 address embeds, and any other address unchanged.
///
/// DNS64 servers of IPv6-only networks synthesise NAT64 addresses from regular IPv4 answers. The policy treats a
/// NAT64 address like the embedded IPv4 address.
fn translate_nat64(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if NAT64_PREFIX.contains(&v6) => {
            let [.., a, b, c, d] = v6.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        other => other,
    }
}

/// Range of addresses that an operator allows: a single address, a network, or `private`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressRange {
    /// Network; for a single address, with the full prefix length.
    Net(IpNet),
    /// All private networks: RFC 1918, and unique local IPv6 addresses.
    Private,
}

impl AddressRange {
    fn contains(self, address: IpAddr, kind: AddressKind) -> bool {
        match self {
            // A cloud metadata service hands out credentials. Only a range that consists of exactly its address
            // allows it; a network that contains the address does not.
            Self::Net(net) if kind == Kind::Metadata => net == IpNet::from(address),
            Self::Net(net) => net.contains(&address),
            Self::Private => kind == Kind::Private,
        }
    }
}

/// Text that is not an address, a network or `private`.
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

/// Address policy of a source: public addresses, and the ranges that the operator allows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct AddressPolicy {
    allowed: BTreeSet<AddressRange>,
}

/// Denied connection: the host name resolves to an address that the policy does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "connection to `{to}` denied: the name resolves to {address}, {kind}; \
     `--allow-address {}` would allow it",
    translate_nat64(*.address)
)]
pub struct DeniedAddress {
    /// Host and port of the connection.
    pub to: HostPort,
    /// Resolved address of the host.
    pub address: IpAddr,
    /// Kind of the address, which is the reason for the denial.
    pub kind: AddressKind,
}

impl AddressPolicy {
    /// Allows the addresses of `range` for every host name.
    pub fn allow(&mut self, range: AddressRange) {
        self.allowed.insert(range);
    }

    /// Checks an address to which a granted host resolves.
    ///
    /// # Errors
    ///
    /// [`DeniedAddress`], unless one of these conditions holds:
    ///
    /// - The address is public.
    /// - The host is an IP address, and equals `address`.
    /// - The host is `localhost` or a subdomain of it, and `address` is a loopback address. A NAT64 address that
    ///   embeds one does not count.
    /// - The operator allows the address.
    pub fn check(&self, to: &HostPort, address: IpAddr) -> Result<(), DeniedAddress> {
        if to.address() == Some(address) {
            return Ok(());
        }
        let (kind, reached) = (AddressKind::classify(address), translate_nat64(address));
        let is_allowed = match kind {
            Kind::Public => true,
            Kind::Loopback if to.is_localhost() && reached == address => true,
            _ => self.allowed.iter().any(|range| range.contains(reached, kind)),
        };
        if is_allowed { Ok(()) } else { Err(DeniedAddress { to: to.clone(), address, kind }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|_| panic!("{text} is not an address"))
    }

    fn host(host: &str) -> HostPort {
        HostPort::new(host, 80).unwrap_or_else(|error| panic!("{error}"))
    }

    fn policy_allowing(ranges: &[&str]) -> AddressPolicy {
        let mut policy = AddressPolicy::default();
        for range in ranges {
            policy.allow(range.parse().unwrap_or_else(|error| panic!("{error}")));
        }
        policy
    }

    #[test]
    fn address_is_classified_by_its_network() {
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
        let deprecated_and_reserved: [(Kind, &[&str]); 5] = [
            (Kind::Broadcast, &["255.255.255.255"]),
            (Kind::SiteLocal, &["fec0::1"]),
            (Kind::Mapped, &["::ffff:1.1.1.1", "::ffff:127.0.0.1", "::1.1.1.1", "::2"]),
            (Kind::Tunnel, &["2002:7f00:1::", "2001::1", "64:ff9b:1::1", "192.88.99.1"]),
            (Kind::Reserved, &["240.0.0.1", "192.0.0.1", "100::1", "4000::1", "64:ff9b:2::1"]),
        ];
        for (kind, addresses) in table.into_iter().chain(deprecated_and_reserved) {
            for address in addresses {
                assert_eq!(AddressKind::classify(ip(address)), kind, "{address}");
            }
        }
    }

    #[test]
    fn name_reaches_only_public_addresses() {
        let policy = AddressPolicy::default();
        assert_eq!(policy.check(&host("example.com"), ip("1.1.1.1")), Ok(()));
        for address in ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "::ffff:1.1.1.1"] {
            let denied = policy.check(&host("example.com"), ip(address));
            assert!(denied.is_err(), "{address}");
        }
    }

    /// An IPv4 address and its IPv4-mapped form are two addresses: a grant of one does not allow the other.
    #[test]
    fn granted_address_is_allowed_in_its_form() {
        let policy = AddressPolicy::default();
        for address in ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fd00::1"] {
            assert_eq!(policy.check(&host(address), ip(address)), Ok(()), "{address}");
        }
        assert_eq!(policy.check(&host("0x7f000001"), ip("127.0.0.1")), Ok(()));
        assert!(policy.check(&host("10.0.0.1"), ip("::ffff:10.0.0.1")).is_err());
        assert!(policy.check(&host("10.0.0.1"), ip("10.0.0.2")).is_err());
    }

    #[test]
    fn localhost_reaches_only_loopback_addresses() {
        let policy = AddressPolicy::default();
        for name in ["localhost", "LOCALHOST.", "db.localhost"] {
            assert_eq!(policy.check(&host(name), ip("127.0.0.1")), Ok(()), "{name}");
            assert_eq!(policy.check(&host(name), ip("::1")), Ok(()), "{name}");
            for other in ["10.0.0.1", "64:ff9b::127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0"] {
                assert!(policy.check(&host(name), ip(other)).is_err(), "{name} {other}");
            }
        }
        assert!(policy.check(&host("notlocalhost"), ip("127.0.0.1")).is_err());
        assert!(policy.check(&host("localhost.example.com"), ip("127.0.0.1")).is_err());
    }

    /// An allowed range covers NAT64 addresses, but neither IPv4-mapped addresses nor metadata services.
    #[test]
    fn allowed_range_applies_to_every_name() {
        let cases: [(&str, &[&str], &[&str]); 6] = [
            ("10.0.0.7", &["10.0.0.7", "64:ff9b::10.0.0.7"], &["10.0.0.8", "::ffff:10.0.0.7"]),
            ("10.0.0.0/24", &["10.0.0.1", "10.0.0.255"], &["10.0.1.0", "127.0.0.1"]),
            ("fd00::/8", &["fd12::1"], &["fc00::1", "fd00:ec2::254"]),
            ("private", &["10.0.0.1", "192.168.1.1", "fd00::1"], &["127.0.0.1", "100.64.0.1"]),
            ("private", &[], &["fd00:ec2::254", "169.254.169.254", "64:ff9b:1::1"]),
            ("169.254.169.254", &["169.254.169.254"], &["169.254.0.1", "::ffff:a9fe:a9fe"]),
        ];
        for (range, allowed, denied) in cases {
            let policy = policy_allowing(&[range]);
            for address in allowed {
                assert_eq!(policy.check(&host("db"), ip(address)), Ok(()), "{range} {address}");
            }
            for address in denied {
                assert!(policy.check(&host("db"), ip(address)).is_err(), "{range} {address}");
            }
        }
        let policy = policy_allowing(&["169.254.0.0/16", "0.0.0.0/0"]);
        assert!(
            policy.check(&host("db"), ip("169.254.169.254")).is_err(),
            "a network does not allow a metadata service"
        );
    }

    #[test]
    fn denial_names_address_and_flag() {
        let denial =
            |address| match AddressPolicy::default().check(&host("db.example"), ip(address)) {
                Ok(()) => panic!("{address} was allowed"),
                Err(denied) => denied.to_string(),
            };
        assert_eq!(
            denial("10.0.0.7"),
            "connection to `db.example:80` denied: the name resolves to 10.0.0.7, a private address; \
             `--allow-address 10.0.0.7` would allow it"
        );
        assert!(denial("64:ff9b::10.0.0.7").ends_with("`--allow-address 10.0.0.7` would allow it"));
    }

    #[test]
    fn displayed_range_parses_again() {
        for range in ["10.0.0.7", "10.0.0.0/8", "fd00::1", "fd00::/8", "private"] {
            let parsed = range.parse::<AddressRange>().map(|range| range.to_string());
            assert_eq!(parsed, Ok(range.into()));
        }
        assert_eq!("[::1]".parse(), Ok(AddressRange::Net(IpNet::from(ip("::1")))));
        for invalid in ["", "db", "10.0.0.0/33", "10.0.0", "Private"] {
            assert!(invalid.parse::<AddressRange>().is_err(), "{invalid}");
        }
    }
}
