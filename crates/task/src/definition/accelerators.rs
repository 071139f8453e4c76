//! Parses SkyPilot's notations for GPUs: `H100`, `H100:8`, `{H100: 8}`, and the bare count `"1"`.

use serde::Serialize;
use serde_json::Value;

use crate::validation::{Validator, coerce};

/// More than any cluster node has.
const MAX_COUNT: f64 = 1024.0;

/// The accelerators of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Accelerators {
    /// The model, e.g., `H100`; `None` for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Their number; at least 1.
    pub count: u32,
}

/// Who makes an accelerator, which decides the resource that nodes request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// NVIDIA, and models that are not known.
    Nvidia,
    /// AMD.
    Amd,
    /// Google, with its TPUs.
    Google,
}

impl Accelerators {
    /// Recognizes AMD's models (`MI300X`) and TPUs (`tpu-v5-lite-podslice`) by their names.
    #[must_use]
    pub fn vendor(&self) -> Vendor {
        let model = self.model.as_deref().unwrap_or_default().to_ascii_lowercase();
        let follows = |prefix: &str, is_next: fn(&char) -> bool| {
            let next = model.strip_prefix(prefix).and_then(|rest| rest.chars().next());
            next.as_ref().is_some_and(is_next)
        };
        if follows("mi", char::is_ascii_digit) {
            Vendor::Amd
        } else if follows("tpu", |next| *next == '-') {
            Vendor::Google
        } else {
            Vendor::Nvidia
        }
    }
}

pub(super) fn parse_accelerators(value: &Value, validator: &mut Validator) -> Option<Accelerators> {
    if let Value::Array(_) = value {
        return validator.value_error("an alternative must name one model, e.g., `H100:8`", value);
    }
    let Value::Object(fields) = value else {
        let text = coerce::string_or_number(value, validator)?;
        return match parse_text(&text) {
            Some(accelerators) => Some(accelerators),
            None => invalid(&text, value, validator),
        };
    };
    let mut models = fields.iter();
    let (Some((model, count)), None) = (models.next(), models.next()) else {
        return validator.value_error("must name exactly one model, e.g., `{H100: 8}`", value);
    };
    // A set in YAML, `{L40S:1}`, is a key without a value.
    if let (true, Value::Null) = (model.contains(':'), count) {
        return match parse_text(model) {
            Some(accelerators) => Some(accelerators),
            None => invalid(model, value, validator),
        };
    }
    let count = match count {
        Value::Null => Some(1),
        count => count.as_f64().and_then(round_up),
    };
    match count {
        Some(count) if is_model_name(model) => Some(Accelerators {
            model: Some(model.clone()),
            count,
        }),
        _ => invalid(model, value, validator),
    }
}

pub(super) fn parse_text(text: &str) -> Option<Accelerators> {
    if let Ok(count) = text.parse::<u32>() {
        let count = round_up(f64::from(count))?;
        return Some(Accelerators { model: None, count });
    }
    let (model, count) = text.split_once(':').unwrap_or((text, "1"));
    Some(Accelerators {
        model: is_model_name(model).then(|| model.to_owned()),
        count: round_up(count.parse().ok()?)?,
    })
    .filter(|accelerators| accelerators.model.is_some())
}

fn is_model_name(model: &str) -> bool {
    model.starts_with(|first: char| first.is_ascii_alphabetic())
        && model.len() <= 63
        && model
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Rounds up to whole GPUs, as SkyPilot does: Kubernetes cannot assign fractions.
fn round_up(count: f64) -> Option<u32> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked first"
    )]
    (count > 0.0 && count <= MAX_COUNT).then(|| count.ceil() as u32)
}

fn invalid<T>(text: &str, value: &Value, validator: &mut Validator) -> Option<T> {
    validator.value_error(
        format!("invalid accelerators `{text}`; expected, e.g., `H100`, `H100:8`, or a count"),
        value,
    )
}
