//! Hostile descriptions of plugins: invalid JSON, control characters, and schemas that are built to
//! exhaust the host.

use crate::run_untrusted_component::{assert_rejected, minimal_component, run_plugin};
use e2e::{TestHost, with_section};
use serde_json::{Value, json};

/// Maximum length of the log of a run, in bytes.
const MAX_LOG_BYTES: usize = 20_000;

/// Writes the minimal plugin with this description and returns its path.
fn plugin_with_description(t: &TestHost, description: impl AsRef<[u8]>) -> &'static str {
    let component = with_section(minimal_component(), "reloader:plugin", description.as_ref());
    t.write("described.wasm", component);
    "./described.wasm"
}

/// Returns the description of a plugin with this schema of its settings.
fn description_with_schema(settings: &Value) -> Vec<u8> {
    json!({ "name": "described", "settings": settings }).to_string().into_bytes()
}

fn assert_granted(url: &str, granted: &str) {
    let t = TestHost::new();
    let schema = json!({ "type": "string", "x-connect": { "http": 22, "https": 22, "own": 22 } });
    let schema = description_with_schema(&json!({ "properties": { "url": schema } }));
    let plugin = plugin_with_description(&t, schema);
    let run = t.finish(&["inspect", "--json", plugin, "--set", &format!("url={url}")]);
    let inspected: Value = serde_json::from_str(&run.text()).unwrap();
    assert_eq!(inspected["granted"], json!([granted]));
}

e2e::cases! {
    /// A schema may set the default ports of its own URL schemes, but not those of `http` and
    /// `https`.
    mod http_port_is_not_configurable_by_schema: assert_granted {
        http("http://127.0.0.1/", "--allow-http http://127.0.0.1:80");
        https("https://127.0.0.1/", "--allow-http https://127.0.0.1:443");
        own_scheme("own://127.0.0.1", "--allow-connect 127.0.0.1:22");
    }
}

e2e::cases! {
    mod url_spellings_result_in_same_grant: assert_granted {
        upper_case_and_hexadecimal("HTTP://0x7f.1:080/a", "--allow-http http://127.0.0.1:80");
        decimal("http://2130706433.:80", "--allow-http http://127.0.0.1:80");
    }
}

fn assert_description_rejected(description: &[u8]) {
    let t = TestHost::new();
    let plugin = plugin_with_description(&t, description);
    assert_rejected(&run_plugin(&t, plugin, &[]), &["invalid description"]);
    assert_rejected(&t.finish(&["inspect", plugin]), &["invalid description"]);
}

fn deeply_nested(open: &str, close: &str) -> String {
    let nested = format!("{}1{}", open.repeat(20_000), close.repeat(20_000));
    format!(r#"{{"name":"x","settings":{nested}}}"#)
}

e2e::cases! {
    mod invalid_description_is_rejected: assert_description_rejected {
        empty(b"");
        truncated(b"{");
        null(b"null");
        array(b"[]");
        name_of_wrong_type(br#"{"name":1}"#);
        missing_name(br#"{"settings":{}}"#);
        deeply_nested_arrays(deeply_nested("[", "]").as_bytes());
        deeply_nested_objects(deeply_nested(r#"{"a":"#, "}").as_bytes());
        long_name(format!(r#"{{"name":"{}"}}"#, "x".repeat(300 << 10)).as_bytes());
        invalid_utf8(b"{\"name\":\"\xff\"}");
    }
}

/// Runs and inspects a plugin with this schema, with no setting, a long one, an unknown one and a
/// deeply nested one.
fn assert_schema_bounded(schema: &Value) {
    let t = TestHost::new();
    let plugin = plugin_with_description(&t, description_with_schema(schema));
    let long = format!("a={}!", "a".repeat(50_000));
    let deep = format!("a={}{}", "[".repeat(50_000), "]".repeat(50_000));
    for settings in [&[][..], &["--set", &long], &["--set", "zzz=1"], &["--set", &deep]] {
        let run = run_plugin(&t, plugin, settings);
        assert!([Some(0), Some(1), Some(2)].contains(&run.status), "{run:?}");
        assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
        let length = run.stderr.len();
        assert!(length < MAX_LOG_BYTES, "{:.20?}: {length} bytes", settings.get(1));
    }
    let inspected = t.finish(&["inspect", plugin]);
    assert!(!inspected.text().contains('\u{1b}'));
    assert!(!inspected.stderr.contains("panicked"), "{}", inspected.stderr);
}

/// Returns a schema in which the setting `a` has this schema.
fn schema_of_setting(schema: &Value) -> Value {
    json!({ "properties": { "a": schema } })
}

fn with_pattern(pattern: &str) -> Value {
    schema_of_setting(&json!({ "type": "string", "pattern": pattern }))
}

fn many_properties() -> Value {
    (0..12_000).map(|n| (format!("p{n}"), json!({}))).collect::<serde_json::Map<_, _>>().into()
}

fn many_required_properties() -> Value {
    let properties = many_properties();
    let names: Vec<_> = properties.as_object().unwrap().keys().cloned().collect();
    json!({ "properties": properties, "required": names })
}

fn many_enum_values() -> Value {
    let values: Vec<_> = (0..20_000).map(|n| format!("n{n}")).collect();
    schema_of_setting(&json!({ "enum": values }))
}

fn mutually_recursive() -> Value {
    let definitions = json!({ "b": { "$ref": "#/$defs/c" }, "c": { "$ref": "#/$defs/b" } });
    json!({ "properties": { "a": { "$ref": "#/$defs/b" } }, "$defs": definitions })
}

/// Returns a schema whose validation cost doubles at each of the first ten levels. Further levels are
/// nested negations.
fn exponential_schema(levels: u32) -> Value {
    (0..levels).fold(json!({ "type": "string" }), |inner, level| {
        if level < 10 { json!({ "allOf": [inner, inner] }) } else { json!({ "not": inner }) }
    })
}

e2e::cases! {
    /// The schema is untrusted. With any schema, `run` and `inspect` end in time with short output.
    mod malicious_schema_is_bounded: assert_schema_bounded {
        many_optional_properties(
            &json!({ "properties": many_properties(), "additionalProperties": false }),
        );
        many_required(&many_required_properties());
        many_choices(&many_enum_values());
        nested_quantifiers(&with_pattern("^(a+)+$"));
        backreference(&with_pattern("^(?:(a|aa)+)+\\1$"));
        huge_repetition(&with_pattern("((((a{1000}){1000}){1000}){1000})"));
        invalid_pattern(&with_pattern("("));
        reference_to_itself(&json!({ "$ref": "#" }));
        setting_refers_to_itself(&schema_of_setting(&json!({ "$ref": "#/properties/a" })));
        mutual_references(&mutually_recursive());
        reference_to_file(&schema_of_setting(&json!({ "$ref": "file:///etc/passwd" })));
        reference_to_server(&schema_of_setting(&json!({ "$ref": "http://127.0.0.1:1/schema" })));
        unknown_type(&schema_of_setting(&json!({ "type": "no such type" })));
        exponential_cost(&schema_of_setting(&exponential_schema(17)));
        invalid_bounds(
            &schema_of_setting(&json!({ "minLength": -1, "maxLength": 1e308, "multipleOf": 0 })),
        );
        keywords_of_other_type(
            &schema_of_setting(&json!({ "uniqueItems": true, "contains": { "type": "string" } })),
        );
        control_characters_in_names(
            &json!({ "properties": {
                "a\nb": { "type": "string" }, "\u{1b}[2J": { "type": "string" } } }),
        );
        keywords_of_wrong_type(
            &json!({ "properties": [], "required": "a", "additionalProperties": 7 }),
        );
        unknown_draft(&json!({ "$schema": "http://json-schema.org/no-such-draft#" }));
        array(&json!([]));
        boolean(&json!(true));
        text(&json!("text"));
    }
}

#[test]
fn description_control_characters_are_escaped() {
    let t = TestHost::new();
    let odd = "odd\n\u{1b}[2J\u{202e}name";
    let description = json!({
        "name": odd, "version": odd, "sdk": odd, "description": odd,
        "settings": { "properties": { odd: { "description": odd, "default": odd, "enum": [odd] } } },
    });
    let plugin = plugin_with_description(&t, description.to_string());
    for arguments in [&["inspect", plugin][..], &["inspect", "--json", plugin]] {
        let text = t.finish(arguments).text();
        for odd in ['\u{1b}', '\u{202e}'] {
            assert!(!text.contains(odd), "{odd:?}: {text}");
        }
    }
    let run = t.finish(&["run", "--once", "--plugin", plugin, "--set", "zzz=1"]);
    assert!(!run.stderr.contains('\u{1b}'), "{}", run.stderr);
}
