//! Lines of a shell, without pipes, lists, substitutions and patterns.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// Variables of a run, by name.
pub(crate) type Variables = BTreeMap<String, String>;

/// The words of a line. Quotes and `$NAME` mean what they mean to a shell; a variable outside of
/// quotes is one word as well.
///
/// # Errors
/// With the name of a variable that is not set.
pub(crate) fn words(line: &str, variables: &Variables) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = line.chars().peekable();
    while let Some(character) = rest.next() {
        match (quote, character) {
            (None, ' ' | '\n') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (Some(open), _) if open == character => quote = None,
            (None | Some('"'), '$') if begins_name(&rest) => {
                let braces = rest.next_if_eq(&'{').is_some();
                let mut name = String::new();
                while let Some(letter) = rest.next_if(|c| c.is_ascii_uppercase() || *c == '_') {
                    name.push(letter);
                }
                if braces {
                    rest.next_if_eq(&'}');
                }
                let value = variables.get(&name).ok_or(name)?;
                word.get_or_insert_default().push_str(value);
            }
            (Some('"'), '\\') => word.get_or_insert_default().extend(rest.next()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    Ok(words)
}

/// True if an upper-case name follows, with or without braces. Scripts have variables of their own,
/// in lower case.
fn begins_name(rest: &Peekable<Chars<'_>>) -> bool {
    let mut rest = rest.clone();
    rest.next_if_eq(&'{');
    rest.next().is_some_and(|c| c.is_ascii_uppercase())
}

/// A text with its variables replaced.
///
/// # Errors
/// With the name of a variable that is not set.
pub(crate) fn filled(text: &str, variables: &Variables) -> Result<String, String> {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    let words = words(&format!("\"{escaped}\""), variables)?;
    Ok(words.into_iter().next().unwrap_or_default())
}

/// The names of the variables in a text.
#[cfg(test)]
pub(crate) fn names(text: &str) -> Vec<String> {
    let mut variables = Variables::new();
    let mut names = Vec::new();
    while let Err(name) = words(text, &variables) {
        variables.insert(name.clone(), "x".to_owned());
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn variables() -> Variables {
        [("NAME", "dev-cloister"), ("KEY", "k d"), ("P", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn a_shell_reads_the_same_words() {
        for line in [
            "aws sns get-topic-attributes --topic-arn \"arn:$NAME-alarms\"",
            "aws x --query 'length(A[?B==`true`]) > `0`'",
            "aws x --filter-pattern '{ $.event = \"clock_stepped\" }' --n ${NAME}s",
            "aws x --query \"A[?B=='c'].D | [0]\" \"$KEY\" '' \"\" \"${P}x\" \"a\\\"b\"",
        ] {
            let script = format!(
                "for word in {}; do echo \"<$word>\"; done",
                &line["aws ".len()..]
            );
            let mut shell = Command::new("bash");
            let output = shell
                .args(["-c", &script])
                .envs(variables())
                .output()
                .unwrap();
            let ours: String = words(line, &variables()).unwrap()[1..]
                .iter()
                .map(|word| format!("<{word}>\n"))
                .collect();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), ours, "{line}");
        }
    }

    #[test]
    fn an_unknown_variable_is_named() {
        assert_eq!(words("x \"$OTHER\"", &variables()), Err("OTHER".to_owned()));
        assert_eq!(
            words("x '$OTHER'", &variables()),
            Ok(vec!["x".into(), "$OTHER".into()])
        );
        assert_eq!(
            filled("$pod $(x) $1 ${lower}", &variables()),
            Ok("$pod $(x) $1 ${lower}".into())
        );
        assert_eq!(
            filled("[\"$NAME\"] \\ y", &variables()),
            Ok("[\"dev-cloister\"] \\ y".into())
        );
        assert_eq!(names("a \"$B\" ${C}d '$E'"), ["B", "C"]);
    }
}
