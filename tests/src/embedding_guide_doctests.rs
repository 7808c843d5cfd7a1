//! Rust examples of the guides for programs that embed the library, compiled as doc-tests.

macro_rules! guides {
    ($($name:ident = $path:literal;)+) => {
        $(
            #[doc = include_str!(concat!("../../docs/", $path))]
            pub mod $name {}
        )+
    };
}

guides! {
    first_value = "embed/README.md";
    native_sources = "embed/native-sources.md";
    plugins = "embed/plugins.md";
    several_sources = "embed/several-sources.md";
    sinks = "embed/sinks.md";
    tests = "embed/tests.md";
    typed_values = "embed/typed-values.md";
}
