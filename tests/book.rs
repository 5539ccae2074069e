//! The listings of the book as doctests.

/// Declares a module for each language, and in it one for each chapter, with the text of the chapter as its docs.
macro_rules! chapters {
    ($($module:ident = $file:literal,)*) => {
        /// The chapters in English.
        mod en {
            $(
                #[doc = include_str!(concat!("../book/en/src/", $file, ".md"))]
                mod $module {}
            )*
        }

        /// The chapters in Chinese.
        mod zh {
            $(
                #[doc = include_str!(concat!("../book/zh/src/", $file, ".md"))]
                mod $module {}
            )*
        }
    };
}

chapters! {
    about = "about",
    getting_started = "getting-started",
    contracts = "contracts",
    calling = "calling",
    errors = "errors",
    deadlines = "deadlines",
    streaming = "streaming",
    testing = "testing",
    routing = "routing",
    changing_contracts = "changing-contracts",
    nacos = "nacos",
    security = "security",
    operations = "operations",
    other_languages = "other-languages",
    migrating = "migrating",
    protocol = "protocol",
    im = "im",
    faq = "faq",
    error_index = "error-index",
}
