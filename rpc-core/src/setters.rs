//! [`setters!`](crate::setters): setters of configs.

/// Generates a setter for each listed field inside the `impl` of a config.
///
/// Configs are `#[non_exhaustive]`, so other crates cannot create them with a struct expression.
///
/// ```
/// #[derive(Default)]
/// #[non_exhaustive]
/// pub struct Config {
///     /// The number of repetitions.
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
