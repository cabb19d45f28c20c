//! What may be shown of personal data: enough to tell two customers apart on a screen, not enough to use it.

/// What stands for a hidden character.
const HIDDEN: char = '*';

/// The last four characters of a number; nothing of one that has eight or fewer.
pub fn number(number: &str) -> String {
    let count = number.chars().count();
    let shown = if count > 8 { 4 } else { 0 };
    number.chars().enumerate().map(|(at, c)| if at + shown < count { HIDDEN } else { c }).collect()
}

/// The first character of a name, which in China is the family name: `王**`.
pub fn name(name: &str) -> String {
    name.chars().enumerate().map(|(at, c)| if at == 0 { c } else { HIDDEN }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn little_is_shown() {
        assert_eq!(number("11010519491231002X"), "**************002X");
        assert_eq!(number("E1234567"), "********");
        assert_eq!(name("王小丫"), "王**");
        assert_eq!((name("").as_str(), number("").as_str()), ("", ""));
    }

    proptest! {
        #[test]
        fn at_least_half_of_a_number_is_hidden(text in "\\PC{1,40}") {
            let hidden = number(&text).chars().filter(|c| *c == HIDDEN).count();
            prop_assert!(hidden * 2 >= text.chars().count());
            prop_assert_eq!(number(&text).chars().count(), text.chars().count());
        }
    }
}
