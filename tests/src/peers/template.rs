//! Configurations of the subjects, with `{{places}}` for what differs between runs.

use anyhow::{Result, bail};

/// The template with each `{{name}}` replaced by its value.
///
/// # Errors
/// When a place has no value.
pub fn render(template: &str, values: &[(&str, String)]) -> Result<String> {
    let mut rendered = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, (name, after))) = rest
        .split_once("{{")
        .and_then(|(before, place)| Some((before, place.split_once("}}")?)))
    {
        let Some((_, value)) = values.iter().find(|(known, _)| *known == name) else {
            bail!("a template has a place for {name:?}, which has no value");
        };
        rendered.push_str(before);
        rendered.push_str(value);
        rest = after;
    }
    rendered.push_str(rest);
    Ok(rendered)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_filled() {
        let values = [
            ("origin", "10.0.0.1".to_string()),
            ("port", "22".to_string()),
        ];
        let rendered = render("a {{origin}}:{{port}} { b } {{port}}", &values).unwrap();
        assert_eq!(rendered, "a 10.0.0.1:22 { b } 22");
    }

    #[test]
    fn a_place_without_a_value_is_an_error() {
        let error = render("{{port}} {{orgin}}", &[("port", "22".to_string())]).unwrap_err();
        assert!(error.to_string().contains("orgin"), "{error}");
    }
}
