//! The rules for names of users, which other users must be able to tell apart.

use unicode_normalization::is_nfkc;
use unicode_security::{
    GeneralSecurityProfile as _, MixedScript as _, general_security_profile::IdentifierType,
    mixed_script::AugmentedScriptSet, skeleton,
};

use super::{FrameError, check_name};

/// Validates the name of a user who logs in, receives a message or becomes a member of a group.
///
/// Besides the rules of [`check_name`], the name has no invisible characters and no characters that set the direction of
/// the text, is in the Unicode normalization form NFKC, does not begin or end with a space or contain two in a row, and
/// does not mix scripts, such as Latin and Cyrillic letters, except Latin letters with Chinese, Japanese or Korean ones.
/// The tables are those of Unicode Technical Standard 39.
///
/// Two names may still look alike, such as `rn` and `m`, or a whole word in another script.
///
/// # Errors
///
/// Returns [`FrameError::Invalid`], which names the field and the rule.
pub fn check_user_name(field: &str, name: &str) -> Result<(), FrameError> {
    check_name(field, name)?;
    let invalid = |reason: &str| Err(FrameError::Invalid(format!("{field} {reason}")));
    if name.starts_with(' ') || name.ends_with(' ') || name.contains("  ") {
        return invalid("begins or ends with a space, or contains two in a row");
    }
    if name.is_ascii() {
        return Ok(());
    }
    if name.chars().any(is_invisible) {
        return invalid("contains invisible or unassigned characters");
    }
    if !is_nfkc(name) {
        return invalid("is not in the Unicode normalization form NFKC");
    }
    if !has_one_script(name) {
        return invalid("mixes letters of several scripts");
    }
    Ok(())
}

/// Returns a text that is equal for names that look alike.
pub(crate) fn appearance(name: &str) -> String {
    skeleton(name).collect()
}

fn is_invisible(character: char) -> bool {
    use IdentifierType::{Default_Ignorable, Deprecated, Not_Character};
    let is_space = character.is_whitespace() && character != ' ';
    let kind = character.identifier_type();
    let is_hidden = matches!(kind, Some(Default_Ignorable | Deprecated | Not_Character));
    !character.is_ascii() && (is_hidden || is_space)
}

/// Returns whether all letters are of one script, or of Latin and one of the East Asian writing systems.
fn has_one_script(name: &str) -> bool {
    if name.is_single_script() {
        return true;
    }
    let others: String = name.chars().filter(|character| !character.is_ascii_alphabetic()).collect();
    let AugmentedScriptSet { hanb, jpan, kore, .. } = others.resolve_script_set();
    hanb || jpan || kore
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_are_valid() {
        for name in [
            "ann",
            "user-1",
            "ann@example.com",
            "Ann Smith",
            "a:b_c.d",
            "Zoë",
            "Łukasz",
            "O'Brien",
            "Αλέξης",
            "Иван",
            "王小明",
            "小明ming",
            "田中さん",
            "カタカナ",
            "김철수",
            "Kim철수",
            "محمد",
            "אבי",
            "अजय",
            "ann 😀",
        ] {
            assert!(check_user_name("user", name).is_ok(), "{name}: {:?}", check_user_name("user", name));
        }
    }

    #[test]
    fn names_that_imitate_others_are_invalid() {
        for (name, reason) in [
            ("", "is missing"),
            ("ann\n", "control characters"),
            (" ann", "space"),
            ("ann ", "space"),
            ("ann  smith", "space"),
            ("ann\u{a0}smith", "invisible"),
            ("an\u{200b}n", "invisible"),
            ("an\u{200d}n", "invisible"),
            ("ann\u{feff}", "invisible"),
            ("a\u{202e}nn", "invisible"),
            ("an\u{ad}n", "invisible"),
            ("ann\u{3164}", "invisible"),
            ("ann\u{e0041}", "invisible"),
            ("ａｎｎ", "NFKC"),
            ("a\u{308}nn", "NFKC"),
            ("ﬁona", "NFKC"),
            // A Cyrillic а, a Greek ο.
            ("аnn", "mixes"),
            ("bοb", "mixes"),
            ("Иvan", "mixes"),
            ("小明аnn", "mixes"),
        ] {
            let error = check_user_name("user", name).expect_err(name).to_string();
            assert!(error.contains(reason), "{name:?}: {error}");
        }
    }

    #[test]
    fn names_that_look_alike_have_one_appearance() {
        for (one, other) in [("paypal", "раураl"), ("1ist", "list"), ("scope", "ѕсоре")] {
            assert_eq!(appearance(one), appearance(other), "{one} {other}");
        }
        assert_ne!(appearance("ann"), appearance("bo"));
    }
}
