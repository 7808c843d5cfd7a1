//! Tables of test cases in which each row is a test of its own.

/// Generates a module with one test for each row. A row `name(arguments)` calls the check function
/// with these arguments.
///
/// ```
/// fn assert_even(number: u32) {
///     assert_eq!(number % 2, 0);
/// }
///
/// e2e::cases! {
///     /// Multiples of two are even.
///     mod multiple_of_two_is_even: assert_even {
///         zero(0);
///         hundred(100);
///     }
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! cases {
    (
        $(#[$attribute:meta])*
        mod $subject:ident: $check:ident {
            $($(#[$case_attribute:meta])* $name:ident($($argument:expr),* $(,)?);)+
        }
    ) => {
        $(#[$attribute])*
        mod $subject {
            #[allow(unused_imports, reason = "some rows use only literals")]
            use super::*;

            $(
                $(#[$case_attribute])*
                #[test]
                fn $name() {
                    $check($($argument),*);
                }
            )+
        }
    };
}
