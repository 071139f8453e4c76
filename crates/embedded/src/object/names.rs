//! Validates names, and the keys and values of labels, with kube-apiserver's messages.

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    !bytes.is_empty() && bytes.iter().all(inner) && bytes[0] != b'-' && bytes[bytes.len() - 1] != b'-'
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !bytes.is_empty()
        && bytes.iter().all(inner)
        && bytes[0].is_ascii_alphanumeric()
        && bytes[bytes.len() - 1].is_ascii_alphanumeric()
}

/// Validates a DNS subdomain as defined in RFC 1123.
pub(crate) fn validate_subdomain(text: &str) -> Result<(), &'static str> {
    if text.len() > 253 {
        return Err("must be no more than 253 bytes");
    }
    text.split('.').all(is_dns_label).then_some(()).ok_or(SUBDOMAIN)
}

/// Validates a DNS label as defined in RFC 1123.
pub(crate) fn validate_label(text: &str) -> Result<(), &'static str> {
    if text.len() > 63 {
        return Err("must be no more than 63 bytes");
    }
    is_dns_label(text).then_some(()).ok_or(LABEL)
}

/// Validates a label's value.
pub(crate) fn validate_label_value(text: &str) -> Result<(), &'static str> {
    if text.len() > 63 {
        return Err("must be no more than 63 bytes");
    }
    (text.is_empty() || is_qualified_part(text)).then_some(()).ok_or(VALUE)
}

/// Validates the key of a label or an annotation.
pub(crate) fn validate_qualified_name(text: &str) -> Result<(), String> {
    let (prefix, part) = match text.split_once('/') {
        Some((prefix, part)) => (Some(prefix), part),
        None => (None, text),
    };
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            return Err("prefix part must be non-empty".to_owned());
        }
        validate_subdomain(prefix).map_err(|why| format!("prefix part {why}"))?;
    }
    if part.is_empty() {
        return Err("name part must be non-empty".to_owned());
    }
    if part.len() > 63 {
        return Err("name part must be no more than 63 bytes".to_owned());
    }
    is_qualified_part(part).then_some(()).ok_or_else(|| PART.to_owned())
}
