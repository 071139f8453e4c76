//! Escapes text so that Kubernetes passes it to a container unchanged.

/// Escapes what the kubelet would expand in `args` and in the values of `env`: `$(NAME)` and `$$`.
///
/// Other dollars stay as they are, so that the script in a manifest remains readable.
/// Source: <https://github.com/kubernetes/kubernetes/blob/master/third_party/forked/golang/expansion/expand.go>.
#[must_use]
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('$') {
        let (before, from_dollar) = rest.split_at(start);
        let dollars = from_dollar.bytes().take_while(|byte| *byte == b'$').count();
        let after = &from_dollar[dollars..];
        let harmless = dollars == 1 && !after.starts_with('(');
        escaped.push_str(before);
        escaped.push_str(&"$".repeat(if harmless { 1 } else { dollars * 2 }));
        rest = after;
    }
    escaped.push_str(rest);
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::escape;

    /// Expands as the kubelet does, in an environment in which every variable has the value `EXPANDED`.
    fn kubelet(text: &str) -> String {
        let characters: Vec<char> = text.chars().collect();
        let mut result = String::new();
        let mut index = 0;
        while index < characters.len() {
            match (characters[index], characters.get(index + 1)) {
                ('$', Some('$')) => {
                    result.push('$');
                    index += 2;
                }
                ('$', Some('(')) => {
                    if let Some(end) = characters[index..].iter().position(|character| *character == ')') {
                        result.push_str("EXPANDED");
                        index += end + 1;
                    } else {
                        result.push_str("$(");
                        index += 2;
                    }
                }
                (character, _) => {
                    result.push(character);
                    index += 1;
                }
            }
        }
        result
    }

    #[test]
    fn plain_variables_stay_readable() {
        assert_eq!(escape("echo $NODE_RANK ${A} $"), "echo $NODE_RANK ${A} $");
        assert_eq!(escape("echo $$ $(date)"), "echo $$$$ $$(date)");
    }

    proptest! {
        #[test]
        fn the_kubelet_gives_back_what_was_written(text in "[$()a-c]{0,24}") {
            prop_assert_eq!(kubelet(&escape(&text)), text);
        }
    }
}
