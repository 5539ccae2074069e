//! [`setters!`](crate::setters): what a config is changed by.

/// Makes a setter for each field of a config that is named, inside its `impl`: what is `#[non_exhaustive]` cannot be written as a
/// struct by others.
///
/// ```
/// #[derive(Default)]
/// #[non_exhaustive]
/// pub struct Config {
///     /// How often.
///     pub times: u32,
/// }
///
/// impl Config {
///     rpc_core::setters! {
///         with_times(times: u32)
///     }
/// }
///
/// assert_eq!(Config::default().with_times(3).times, 3);
/// ```
#[macro_export]
macro_rules! setters {
    ($($setter:ident($field:ident: $type:ty))*) => {$(
        #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
        #[must_use]
        pub fn $setter(mut self, $field: $type) -> Self {
            self.$field = $field;
            self
        }
    )*};
}
