//! Judges values by the numbers in them: each has its limits, and may change only so much at once, which
//! no JSON Schema can say.

use guest_sdk::{Failure, Snapshot, Validator, Verdict};
use serde_json::Value;

/// What the numbers in a value, in JSON or TOML, have to be like.
#[guest_sdk::settings]
pub struct Settings {
    /// The rules; a value has to keep all of them.
    pub rules: Vec<Rule>,
}

/// What is asked of one place in the value.
#[guest_sdk::settings]
pub struct Rule {
    /// The place, as a JSON Pointer, e.g. `/pool/size` or `/servers/0/weight`.
    pub at: String,
    /// Whether there must be a number.
    #[setting(default = true)]
    pub required: bool,
    /// The least that it may be.
    pub min: Option<f64>,
    /// The most that it may be.
    pub max: Option<f64>,
    /// How much it may differ from the last good value's, in percent of that.
    pub max_change: Option<f64>,
}

/// See [`Settings`].
pub struct LimitsCheck(Settings);

impl Validator for LimitsCheck {
    type Config = Settings;

    fn new(config: Settings) -> Result<Self, Failure> {
        for Rule { at, min, max, .. } in &config.rules {
            if !at.is_empty() && !at.starts_with('/') {
                return Err(Failure::config(format!(
                    "`{at}` is no JSON Pointer: it would begin with a `/`"
                )));
            }
            if let (Some(min), Some(max)) = (min, max)
                && min > max
            {
                return Err(Failure::config(format!("`{at}`: no number is {min} to {max}")));
            }
        }
        Ok(Self(config))
    }

    fn validate(
        &mut self,
        value: &Snapshot,
        previous: Option<&Snapshot>,
    ) -> Result<Verdict, Failure> {
        let value = match parse(value) {
            Ok(value) => value,
            Err(why) => return Ok(Verdict::Refused(why)),
        };
        // One that was let through without this check may be anything.
        let previous = previous.and_then(|previous| parse(previous).ok());
        let broken: Vec<_> =
            self.0.rules.iter().filter_map(|rule| rule.broken(&value, previous.as_ref())).collect();
        Ok(if broken.is_empty() { Verdict::Accepted } else { Verdict::refused(broken.join("; ")) })
    }
}

guest_sdk::export!(LimitsCheck: Validator);

fn parse(value: &Snapshot) -> Result<Value, String> {
    let is_toml = value.media_type.as_deref().is_some_and(|media_type| media_type.contains("toml"));
    if is_toml {
        let text = str::from_utf8(&value.content).map_err(|error| error.to_string())?;
        toml::from_str(text).map_err(|error| format!("it is not TOML: {}", error.message()))
    } else {
        serde_json::from_slice(&value.content).map_err(|error| format!("it is not JSON: {error}"))
    }
}

impl Rule {
    /// How the value breaks it, if it does.
    fn broken(&self, value: &Value, previous: Option<&Value>) -> Option<String> {
        let Self { at, required, min, max, max_change } = self;
        let Some(there) = value.pointer(at) else {
            return required.then(|| format!("`{at}` is missing"));
        };
        let Some(number) = there.as_f64() else { return Some(format!("`{at}` is no number")) };
        if let Some(min) = min.filter(|min| number < *min) {
            return Some(format!("`{at}` is {number}, and at least {min} is allowed"));
        }
        if let Some(max) = max.filter(|max| number > *max) {
            return Some(format!("`{at}` is {number}, and at most {max} is allowed"));
        }
        let before = previous?.pointer(at)?.as_f64()?;
        let allowed = (*max_change)? / 100.0 * before.abs();
        ((number - before).abs() > allowed).then(|| {
            format!("`{at}` changes from {before} to {number}, and by at most {allowed} is allowed")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(at: &str) -> Rule {
        Rule { at: at.into(), required: true, min: None, max: None, max_change: None }
    }

    fn verdict(rule: Rule, value: &str, previous: Option<&str>) -> String {
        let mut check = LimitsCheck::new(Settings { rules: vec![rule] }).expect("sound rules");
        let previous = previous.map(Snapshot::new);
        match check.validate(&Snapshot::new(value), previous.as_ref()).expect("a verdict") {
            Verdict::Accepted => String::new(),
            Verdict::Refused(reason) => reason,
        }
    }

    #[test]
    fn a_number_has_its_limits() {
        let sized = || Rule { min: Some(1.0), max: Some(8.0), ..rule("/pool/size") };
        assert_eq!(verdict(sized(), r#"{"pool": {"size": 8}}"#, None), "");
        assert_eq!(
            verdict(sized(), r#"{"pool": {"size": 9}}"#, None),
            "`/pool/size` is 9, and at most 8 is allowed"
        );
        assert_eq!(
            verdict(sized(), r#"{"pool": {"size": 0}}"#, None),
            "`/pool/size` is 0, and at least 1 is allowed"
        );
        assert_eq!(verdict(sized(), "{}", None), "`/pool/size` is missing");
        assert_eq!(verdict(Rule { required: false, ..sized() }, "{}", None), "");
        assert_eq!(
            verdict(sized(), r#"{"pool": {"size": "8"}}"#, None),
            "`/pool/size` is no number"
        );
    }

    #[test]
    fn a_number_changes_only_so_much_at_once() {
        let steady = || Rule { max_change: Some(50.0), ..rule("/0") };
        assert_eq!(verdict(steady(), "[15]", Some("[10]")), "");
        assert_eq!(
            verdict(steady(), "[16]", Some("[10]")),
            "`/0` changes from 10 to 16, and by at most 5 is allowed"
        );
        assert_eq!(verdict(steady(), "[16]", None), "", "there is nothing to compare it with");
        assert_eq!(verdict(steady(), "[16]", Some("nonsense")), "");
    }

    #[test]
    fn what_says_that_it_is_toml_is_read_as_toml() {
        let mut check =
            LimitsCheck::new(Settings { rules: vec![rule("/a")] }).expect("sound rules");
        let toml = |text: &str| Snapshot::new(text).media_type("application/toml");
        assert_eq!(check.validate(&toml("a = 1"), None), Ok(Verdict::Accepted));
        let refused = check.validate(&toml("a = "), None).expect("a verdict");
        assert!(matches!(refused, Verdict::Refused(why) if why.starts_with("it is not TOML")));
    }

    #[test]
    fn rules_that_cannot_be_kept_are_refused() {
        for (rule, expected) in [
            (rule("pool"), "is no JSON Pointer"),
            (Rule { min: Some(2.0), max: Some(1.0), ..rule("/a") }, "no number is 2 to 1"),
        ] {
            let refused = LimitsCheck::new(Settings { rules: vec![rule] }).err().expect(expected);
            assert!(refused.message.contains(expected), "{refused}");
        }
    }
}
