//! Checks the keys of `resources` that select a cloud. This server has one Kubernetes cluster.

use serde_json::Value;

use crate::validation::{Fields, Validator, coerce};

/// What to do with a key that names another cloud.
const REMEDY: &str = "this server has one Kubernetes cluster: leave it out";

/// Checks `infra`, and its old form: `cloud`, `region`, and `zone`.
pub(super) fn check(fields: &mut Fields<'_, '_>) {
    let old_keys = ["cloud", "region", "zone"]
        .into_iter()
        .filter(|key| fields.has(key))
        .collect::<Vec<_>>();
    let infra_context = fields.optional("infra", parse_infra);
    let cloud = fields.optional("cloud", parse_cloud);
    let region = fields.optional("region", coerce::string);
    fields.optional("zone", |value, validator| {
        validator.value_error::<()>(format!("a zone is a part of another cloud, and {REMEDY}"), value)
    });
    if let (true, Some(key)) = (fields.has("infra"), old_keys.first()) {
        fields.value_error(key, format!("`{key}` is a part of `infra`; remove it"));
    } else if fields.has("region") && !fields.has("cloud") {
        fields.value_error("region", format!("a region is a part of another cloud, and {REMEDY}"));
    }
    let context = infra_context.flatten().map(|context| ("infra", context));
    let context = context.or_else(|| cloud.and(region).map(|context| ("region", context)));
    if let Some((key, context)) = context {
        fields.warn(format!(
            "`resources.{key}` names the context `{context}`, which has no effect: this server has one cluster"
        ));
    }
}

/// Parses `k8s`, `kubernetes`, `*`, and those with a context: `k8s/my-context`. Returns the context.
fn parse_infra(value: &Value, validator: &mut Validator) -> Option<Option<String>> {
    let text = coerce::string(value, validator)?;
    let (cloud, context) = match text.split_once('/') {
        Some((cloud, context)) => (cloud, Some(context)),
        None => (text.as_str(), None),
    };
    if ["k8s", "kubernetes", "*"]
        .iter()
        .any(|known| cloud.trim().eq_ignore_ascii_case(known))
    {
        let context = context.filter(|context| !context.is_empty() && *context != "*");
        return Some(context.map(str::to_owned));
    }
    validator.value_error(format!("`{cloud}` is another cloud, and {REMEDY}"), value)
}

fn parse_cloud(value: &Value, validator: &mut Validator) -> Option<()> {
    let cloud = coerce::string(value, validator)?;
    if cloud.eq_ignore_ascii_case("kubernetes") {
        return Some(());
    }
    validator.value_error(format!("`{cloud}` is another cloud, and {REMEDY}"), value)
}
