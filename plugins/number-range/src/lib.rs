//! Validator that checks the range of numbers in a value and their change since the last published value. A
//! JSON Schema cannot express a limit for the change.

use guest_sdk::{Failure, Snapshot, Validation, Validator};
use serde_json::Value;

/// Constraints on the numbers in JSON or TOML values.
#[guest_sdk::settings]
pub struct Settings {
    /// Rules. A value must satisfy all of them.
    pub rules: Vec<Rule>,
}

/// Constraint on one number in the value.
#[guest_sdk::settings]
pub struct Rule {
    /// JSON Pointer to the number, e.g. `/pool/size` or `/servers/0/weight`.
    pub at: String,
    /// Rejects values without the number.
    #[setting(default = true)]
    pub required: bool,
    /// Minimum, inclusive.
    pub min: Option<f64>,
    /// Maximum, inclusive.
    pub max: Option<f64>,
    /// Maximum difference from the number in the last published value, in percent of that number.
    pub max_change: Option<f64>,
}

/// Validator that applies the rules of the [`Settings`].
pub struct NumberRange(Settings);

impl Validator for NumberRange {
    type Config = Settings;

    fn new(config: Settings) -> Result<Self, Failure> {
        for Rule { at, min, max, .. } in &config.rules {
            if !at.is_empty() && !at.starts_with('/') {
                return Err(Failure::config(format!(
                    "`{at}` is not a JSON Pointer: expected a leading `/`"
                )));
            }
            if let (Some(min), Some(max)) = (min, max)
                && min > max
            {
                return Err(Failure::config(format!(
                    "`{at}`: `min` {min} is greater than `max` {max}"
                )));
            }
        }
        Ok(Self(config))
    }

    fn validate(
        &mut self,
        value: &Snapshot,
        previous: Option<&Snapshot>,
    ) -> Result<Validation, Failure> {
        let value = match parse(value) {
            Ok(value) => value,
            Err(why) => return Ok(Validation::Rejected(why)),
        };
        // A value that was published before this validator was configured may be unparsable. `max_change` then has
        // no effect.
        let previous = previous.and_then(|previous| parse(previous).ok());
        let violations: Vec<_> = self
            .0
            .rules
            .iter()
            .filter_map(|rule| rule.violation(&value, previous.as_ref()))
            .collect();
        Ok(if violations.is_empty() {
            Validation::Accepted
        } else {
            Validation::rejected(violations.join("; "))
        })
    }
}

guest_sdk::export!(NumberRange: Validator);

/// Parses a value as TOML or JSON, depending on its media type.
fn parse(value: &Snapshot) -> Result<Value, String> {
    let is_toml = value.media_type.as_deref().is_some_and(|media_type| media_type.contains("toml"));
    if is_toml {
        let text = str::from_utf8(&value.content).map_err(|error| error.to_string())?;
        toml::from_str(text)
            .map_err(|error| format!("the value is not valid TOML: {}", error.message()))
    } else {
        serde_json::from_slice(&value.content)
            .map_err(|error| format!("the value is not valid JSON: {error}"))
    }
}

impl Rule {
    /// Describes the violation of this rule, if any.
    fn violation(&self, value: &Value, previous: Option<&Value>) -> Option<String> {
        let Self { at, required, min, max, max_change } = self;
        let Some(target) = value.pointer(at) else {
            return required.then(|| format!("`{at}` is missing"));
        };
        let Some(number) = target.as_f64() else {
            return Some(format!("`{at}` is not a number"));
        };
        if let Some(min) = min.filter(|min| number < *min) {
            return Some(format!("`{at}` is {number}; the minimum is {min}"));
        }
        if let Some(max) = max.filter(|max| number > *max) {
            return Some(format!("`{at}` is {number}; the maximum is {max}"));
        }
        let before = previous?.pointer(at)?.as_f64()?;
        let allowed = (*max_change)? / 100.0 * before.abs();
        ((number - before).abs() > allowed).then(|| {
            format!("`{at}` changes from {before} to {number}; the maximum change is {allowed}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(at: &str) -> Rule {
        Rule { at: at.into(), required: true, min: None, max: None, max_change: None }
    }

    fn validation(rule: Rule, value: &str, previous: Option<&str>) -> String {
        let mut check = NumberRange::new(Settings { rules: vec![rule] }).expect("valid rules");
        let previous = previous.map(Snapshot::new);
        match check.validate(&Snapshot::new(value), previous.as_ref()).expect("a result") {
            Validation::Accepted => String::new(),
            Validation::Rejected(reason) => reason,
        }
    }

    #[test]
    fn number_out_of_range_is_rejected() {
        let sized = || Rule { min: Some(1.0), max: Some(8.0), ..rule("/pool/size") };
        assert_eq!(validation(sized(), r#"{"pool": {"size": 8}}"#, None), "");
        assert_eq!(
            validation(sized(), r#"{"pool": {"size": 9}}"#, None),
            "`/pool/size` is 9; the maximum is 8"
        );
        assert_eq!(
            validation(sized(), r#"{"pool": {"size": 0}}"#, None),
            "`/pool/size` is 0; the minimum is 1"
        );
        assert_eq!(validation(sized(), "{}", None), "`/pool/size` is missing");
        assert_eq!(validation(Rule { required: false, ..sized() }, "{}", None), "");
        assert_eq!(
            validation(sized(), r#"{"pool": {"size": "8"}}"#, None),
            "`/pool/size` is not a number"
        );
    }

    #[test]
    fn large_change_is_rejected() {
        let steady = || Rule { max_change: Some(50.0), ..rule("/0") };
        assert_eq!(validation(steady(), "[15]", Some("[10]")), "");
        assert_eq!(
            validation(steady(), "[16]", Some("[10]")),
            "`/0` changes from 10 to 16; the maximum change is 5"
        );
        assert_eq!(validation(steady(), "[16]", None), "", "no previous value");
        assert_eq!(validation(steady(), "[16]", Some("nonsense")), "");
    }

    #[test]
    fn toml_media_type_selects_toml() {
        let mut check =
            NumberRange::new(Settings { rules: vec![rule("/a")] }).expect("valid rules");
        let toml = |text: &str| Snapshot::new(text).media_type("application/toml");
        assert_eq!(check.validate(&toml("a = 1"), None), Ok(Validation::Accepted));
        let rejected = check.validate(&toml("a = "), None).expect("a result");
        let Validation::Rejected(reason) = rejected else { panic!("the value is accepted") };
        assert!(reason.starts_with("the value is not valid TOML"), "{reason}");
    }

    #[test]
    fn invalid_rule_is_config_failure() {
        for (rule, expected) in [
            (rule("pool"), "is not a JSON Pointer"),
            (
                Rule { min: Some(2.0), max: Some(1.0), ..rule("/a") },
                "`min` 2 is greater than `max` 1",
            ),
        ] {
            let failure = NumberRange::new(Settings { rules: vec![rule] }).err().expect(expected);
            assert!(failure.message.contains(expected), "{failure}");
        }
    }
}
