//! Checks the keys of `resources` that select a cloud. This server has one Kubernetes cluster.

use crate::validation::{Fields, coerce};

/// What to do with a key that names another cloud.
const REMEDY: &str = "this server has one Kubernetes cluster: leave it out";

/// The key that can name the machines of another cloud.
const INSTANCE_TYPE: &str = "instance_type";

/// Resources of another cloud.
#[derive(Debug)]
pub(super) struct OtherCloud {
    /// The key that names it.
    pub key: &'static str,
    /// Its name, or that of an instance type.
    pub name: String,
}

impl OtherCloud {
    /// The cloud, whichever it is, with an instance type that is not one of Kubernetes.
    pub(super) fn of_instance_type(name: String) -> Self {
        let key = INSTANCE_TYPE;
        Self { key, name }
    }

    /// Whether they only name an instance type.
    pub(super) fn is_instance_type(&self) -> bool {
        self.key == INSTANCE_TYPE
    }

    /// Why they are rejected.
    pub(super) fn reason(&self) -> String {
        if self.key == INSTANCE_TYPE {
            return format!(
                "`{}` is an instance type of another cloud; expected, e.g., `4CPU--16GB` or `8CPU--32GB--H100:1`",
                self.name
            );
        }
        format!("`{}` is another cloud, and {REMEDY}", self.name)
    }

    /// What an alternative asks for, in a sentence.
    pub(super) fn described(&self) -> String {
        if self.key == INSTANCE_TYPE {
            return format!("has the instance type `{}`", self.name);
        }
        format!("is on `{}`", self.name)
    }
}

/// Checks `infra`, and its old form: `cloud`, `region`, and `zone`. Returns the other cloud that they name, if any.
pub(super) fn check(fields: &mut Fields<'_, '_>) -> Option<OtherCloud> {
    let old_keys = ["cloud", "region", "zone"]
        .into_iter()
        .filter(|key| fields.has(key))
        .collect::<Vec<_>>();
    let infra = fields.optional("infra", coerce::string);
    let cloud = fields.optional("cloud", coerce::string);
    let region = fields.optional("region", coerce::string);
    let zone = fields.optional("zone", coerce::string);
    if let (true, Some(key)) = (fields.has("infra"), old_keys.first()) {
        fields.value_error(key, format!("`{key}` is a part of `infra`; remove it"));
        return None;
    }
    let infra = infra.as_deref().map(split_infra);
    let named = [("infra", infra.map(|(cloud, _)| cloud)), ("cloud", cloud.as_deref())];
    for (key, name) in named {
        let Some(name) = name.filter(|name| !is_kubernetes(name)) else {
            continue;
        };
        let name = name.to_owned();
        return Some(OtherCloud { key, name });
    }
    if fields.has("region") && !fields.has("cloud") {
        fields.value_error("region", format!("a region is a part of another cloud, and {REMEDY}"));
    }
    if zone.is_some() {
        fields.value_error("zone", format!("a zone is a part of another cloud, and {REMEDY}"));
    }
    let context = infra.and_then(|(_, context)| context).map(|context| ("infra", context));
    let context = context.or_else(|| cloud.and(region.as_deref()).map(|context| ("region", context)));
    if let Some((key, context)) = context {
        fields.warn(format!(
            "`resources.{key}` names the context `{context}`, which has no effect: this server has one cluster"
        ));
    }
    None
}

/// Splits `k8s`, `*`, and those with a context: `k8s/my-context`.
fn split_infra(infra: &str) -> (&str, Option<&str>) {
    match infra.split_once('/') {
        Some((cloud, context)) => (cloud, Some(context).filter(|context| !matches!(*context, "" | "*"))),
        None => (infra, None),
    }
}

fn is_kubernetes(cloud: &str) -> bool {
    ["k8s", "kubernetes", "*"]
        .iter()
        .any(|known| cloud.trim_matches(' ').eq_ignore_ascii_case(known))
}
