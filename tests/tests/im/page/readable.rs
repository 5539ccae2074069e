//! Checks that the page is readable: contrast, width, accessible names.

use serde_json::json;
use tests::browser::{Browser, Screen};

/// Checks the contrast, the width and the accessible names of the page, in light and dark.
pub(super) async fn assert_readable(browser: &mut Browser, name: &str, screen: Screen) {
    for is_dark in [false, true] {
        browser.show_on(Screen { is_dark, ..screen }).await;
        browser.screenshot(&format!("{name}{}", if is_dark { "-dark" } else { "" })).await;
        assert_eq!(low_contrast_texts(browser).await, "[]", "{name}, dark: {is_dark}");
        let scrolls = "document.documentElement.scrollWidth > innerWidth";
        assert_eq!(browser.evaluate(scrolls).await, json!(false), "{name} is wider than its screen");
    }
    assert_eq!(browser.unnamed_elements().await, Vec::<String>::new(), "{name}");
    browser.show_on(screen).await;
}

/// Returns the texts whose contrast to their background is below 4.5 to 1.
async fn low_contrast_texts(browser: &mut Browser) -> String {
    browser.evaluate(LOW_CONTRAST_TEXTS).await.to_string()
}

const LOW_CONTRAST_TEXTS: &str = r#"(() => {
    const parse = color => {
        const numbers = color.match(/[\d.]+/g).map(Number);
        return color.startsWith("color(") ? [...numbers.slice(0, 3).map(part => part * 255), numbers[3] ?? 1] : [...numbers.slice(0, 3), numbers[3] ?? 1];
    };
    const luminance = ([red, green, blue]) => [red, green, blue].map(part => part / 255)
        .map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
        .reduce((sum, part, index) => sum + part * [.2126, .7152, .0722][index], 0);
    const background = element => {
        for (let at = element; at; at = at.parentElement) {
            const color = parse(getComputedStyle(at).backgroundColor);
            if (color[3] === 1) return color;
        }
        return [255, 255, 255, 1];
    };
    const texts = [];
    for (const element of document.querySelectorAll("body *")) {
        const text = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data.trim()).join("");
        if (!text || !element.checkVisibility() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
        const [one, other] = [parse(getComputedStyle(element).color), background(element)].map(luminance).sort((a, b) => b - a);
        const contrast = (one + .05) / (other + .05);
        if (contrast < 4.5) texts.push(`${text.slice(0, 20)}: ${contrast.toFixed(2)}`);
    }
    return texts;
})()"#;
