//! Quotes text for bash.

/// Quotes a path so that bash expands `~` and variables but keeps spaces.
pub(super) fn quote_path(path: &str) -> String {
    // Keep the slash outside of the quotes: bash does not expand `~"/code"`.
    let (home, rest) = match path.strip_prefix('~') {
        Some("") => return "~".to_owned(),
        Some(rest) if rest.starts_with('/') => ("~/", rest.trim_start_matches('/')),
        _ => ("", path),
    };
    let mut quoted = String::new();
    for character in rest.chars() {
        if matches!(character, '"' | '\\' | '`') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    // `cd` would take a path with a leading dash for an option.
    let here = if home.is_empty() && rest.starts_with('-') {
        "./"
    } else {
        ""
    };
    format!("{home}\"{here}{quoted}\"")
}

/// Quotes text so that bash takes it as it is.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Text as a pattern of a shell, `find`, or `tar` that matches nothing else.
pub(super) fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}
