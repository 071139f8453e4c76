//! Parses `resources` with alternatives: `any_of`, `ordered`, and several accelerators.

use serde::Serialize;
use serde_json::{Map, Value};

use super::accelerators::parse_accelerators;
use super::resources::{ParsedResources, Resources};
use super::{instance_type, keys};
use crate::validation::{LocItem, Validator, coerce};

/// The maximum number of alternatives.
pub(super) const MAX_ALTERNATIVES: usize = 64;

/// The keys that mean accelerators.
const ACCELERATOR_KEYS: [&str; 2] = ["accelerators", "gpus"];

/// The key with alternatives in any order.
const ANY_OF: &str = "any_of";

/// The resources of a task, and others that it can use instead.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alternatives {
    /// Whether those that come first are preferred.
    pub is_ordered: bool,
    /// All alternatives, at least one.
    pub resources: Vec<Resources>,
}

/// A key of `resources` that lists alternatives.
struct Source {
    key: &'static str,
    is_ordered: bool,
    /// Another key that lists alternatives, if each of those here is combined with each of those there.
    with: Option<&'static str>,
    /// What each of them adds to the other keys, and where it is in the value of the key.
    overlays: Vec<(LocItem, Map<String, Value>)>,
}

/// Parses `resources`. Returns the first alternative, or the resources if there are none, and all alternatives.
pub(super) fn parse_resources(value: &Value, validator: &mut Validator) -> Option<(Resources, Option<Alternatives>)> {
    let Some(fields) = value.as_object() else {
        return Resources::from_value(value, validator).map(|parsed| (parsed.resources, None));
    };
    let mut sources = sources(fields, validator)?;
    if let [models, items] = sources.as_slice()
        && !models.is_ordered
        && items.key == ANY_OF
    {
        sources = vec![product(models, items, &fields[ANY_OF], validator)?];
    }
    let (first, second) = (sources.pop(), sources.pop());
    match (first, second) {
        (None, _) => parse_single(value, validator).map(|resources| (resources, None)),
        (Some(source), None) => {
            let alternatives = parse_alternatives(fields, &source, validator)?;
            let first = alternatives.resources.first()?.clone();
            Some((first, Some(alternatives)))
        }
        (Some(source), Some(other)) => validator.within(source.key, |validator| {
            let reason = format!("alternatives are already in `{}`; remove one of the two", other.key);
            validator.value_error(reason, &fields[source.key])
        }),
    }
}

fn parse_single(value: &Value, validator: &mut Validator) -> Option<Resources> {
    let ParsedResources { resources, elsewhere } = Resources::from_value(value, validator)?;
    match elsewhere {
        None => Some(resources),
        // The reference implementation accepts any. As an alternative, it would be one without particular resources.
        Some(cloud) if cloud.is_instance_type() => {
            validator.warn(format!("`resources.instance_type` has no effect: {}", cloud.reason()));
            Some(resources)
        }
        Some(cloud) => validator.within(cloud.key, |validator| {
            validator.value_error(cloud.reason(), &value[cloud.key])
        }),
    }
}

/// All keys that list alternatives, in the order in which they are parsed. `None` if a list is invalid.
fn sources(fields: &Map<String, Value>, validator: &mut Validator) -> Option<Vec<Source>> {
    let mut sources = Vec::new();
    for key in ACCELERATOR_KEYS {
        let models = match fields.get(key) {
            Some(Value::Array(_)) => validator.within(key, |validator| listed_models(&fields[key], validator))?,
            // SkyPilot writes `{L40S:1, H100:1}` for a set, and `{L40S: 1, H100: 1}` means the same.
            Some(Value::Object(models)) if models.len() > 1 => {
                let model = |(name, count): (&String, &Value)| {
                    let single = Map::from_iter([(name.clone(), count.clone())]);
                    (LocItem::from(name.as_str()), Value::Object(single))
                };
                models.iter().map(model).collect()
            }
            _ => continue,
        };
        let overlay = |(place, model): (LocItem, Value)| (place, Map::from_iter([(key.to_owned(), model)]));
        sources.push(Source {
            key,
            is_ordered: fields[key].is_array(),
            with: None,
            overlays: models.into_iter().map(overlay).collect(),
        });
    }
    for (key, is_ordered) in [(ANY_OF, false), ("ordered", true)] {
        let Some(list) = fields.get(key).filter(|list| !list.is_null()) else {
            continue;
        };
        let overlays = validator.within(key, |validator| listed_resources(list, validator))?;
        sources.push(Source {
            key,
            is_ordered,
            with: None,
            overlays,
        });
    }
    Some(sources)
}

/// Each of the alternatives with each of the models, as in SkyPilot. One that names models of its own keeps them.
fn product(models: &Source, items: &Source, list: &Value, validator: &mut Validator) -> Option<Source> {
    for (place, overlay) in &models.overlays {
        validator.within(models.key, |validator| {
            let value = &overlay[models.key];
            validator.within(place.clone(), |validator| parse_accelerators(value, validator))
        })?;
    }
    let mut overlays = Vec::new();
    for (place, item) in &items.overlays {
        if names_models(item) {
            overlays.push((place.clone(), item.clone()));
            continue;
        }
        let with = |(_, model): &(LocItem, Map<String, Value>)| (place.clone(), overlaid(model, item));
        overlays.extend(models.overlays.iter().map(with));
    }
    let count = overlays.len();
    if count > MAX_ALTERNATIVES {
        let reason =
            format!("there can be at most {MAX_ALTERNATIVES} alternatives, and with the models there are {count}");
        return validator.within(items.key, |validator| validator.value_error(reason, list));
    }
    Some(Source {
        key: items.key,
        is_ordered: false,
        with: Some(models.key),
        overlays,
    })
}

/// Whether an alternative says which accelerators it has.
fn names_models(item: &Map<String, Value>) -> bool {
    let stated = stated_keys(item);
    let is_named = |key: &&str| item.contains_key(*key) || stated.contains(key);
    ACCELERATOR_KEYS.iter().any(is_named)
}

/// The keys with what the instance type of an alternative says.
fn stated_keys(item: &Map<String, Value>) -> &'static [&'static str] {
    let name = item.get("instance_type").and_then(Value::as_str);
    name.map_or(&[], instance_type::stated_keys)
}

fn listed_models(list: &Value, validator: &mut Validator) -> Option<Vec<(LocItem, Value)>> {
    let item = |item: &Value, validator: &mut Validator| match item {
        Value::String(_) => Some(item.clone()),
        _ => validator.value_error("must be text, e.g., `H100:8`", item),
    };
    listed(list, "must name at least one model", item, validator)
}

fn listed_resources(list: &Value, validator: &mut Validator) -> Option<Vec<(LocItem, Map<String, Value>)>> {
    let item = |item: &Value, validator: &mut Validator| match item {
        Value::Object(fields) => Some(fields.clone()),
        _ => validator.push_error("dict_type", "Input should be a valid dictionary", item),
    };
    listed(list, "must have at least one alternative", item, validator)
}

/// The items of a list with their places. `if_empty` is the error if there are none.
fn listed<T>(
    list: &Value,
    if_empty: &str,
    item: impl FnMut(&Value, &mut Validator) -> Option<T>,
    validator: &mut Validator,
) -> Option<Vec<(LocItem, T)>> {
    let items = coerce::list(list, validator, MAX_ALTERNATIVES, item)?;
    if items.is_empty() {
        return validator.value_error(if_empty, list);
    }
    let places = (0..).map(LocItem::Index);
    Some(places.zip(items).collect())
}

/// Parses each alternative with the other keys as its defaults. Drops those on other clouds, unless none is left.
fn parse_alternatives(fields: &Map<String, Value>, source: &Source, validator: &mut Validator) -> Option<Alternatives> {
    let mut defaults = fields.clone();
    for key in [source.key].into_iter().chain(source.with) {
        defaults.shift_remove(key);
    }
    let (mut resources, mut dropped) = (Vec::new(), Vec::new());
    for (place, overlay) in &source.overlays {
        let merged = Value::Object(overlaid(&defaults, overlay));
        let mut attempt = validator.branch();
        let parsed = attempt.within(source.key, |attempt| {
            attempt.within(place.clone(), |attempt| Resources::from_value(&merged, attempt))
        });
        if attempt.error_count() > 0 {
            // Report a mistake in the defaults at its place, and not in each alternative.
            let mut alone = validator.branch();
            Resources::from_value(&Value::Object(defaults), &mut alone);
            validator.absorb(if alone.error_count() > 0 { alone } else { attempt });
            return None;
        }
        validator.absorb(attempt);
        let ParsedResources {
            resources: parsed,
            elsewhere,
        } = parsed?;
        match elsewhere {
            None => resources.push(parsed),
            Some(cloud) => dropped.push(format!("`{}.{place}` {}", source.key, cloud.described())),
        }
    }
    dropped.dedup();
    if resources.is_empty() {
        return validator.within(source.key, |validator| {
            let reason = format!("no alternative is on Kubernetes: {}", dropped.join(", "));
            validator.value_error(reason, &fields[source.key])
        });
    }
    if !dropped.is_empty() {
        let dropped = dropped.join(", ");
        validator.warn(format!("alternatives on other clouds are ignored: {dropped}"));
    }
    let is_ordered = source.is_ordered;
    Some(Alternatives { is_ordered, resources })
}

/// The defaults with the keys of an alternative, which also replace keys that mean the same, and those that its instance
/// type states.
fn overlaid(defaults: &Map<String, Value>, overlay: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = defaults.clone();
    for key in overlay.keys() {
        for alias in keys::aliases(key) {
            merged.shift_remove(*alias);
        }
    }
    for key in stated_keys(overlay) {
        merged.shift_remove(*key);
    }
    merged.extend(overlay.clone());
    merged
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{Resources, TaskDefinition};

    fn parse(resources: &Value) -> Result<TaskDefinition, String> {
        let body = json!({"run": "true", "resources": resources});
        TaskDefinition::parse(&body, 1).map_err(|errors| serde_json::to_string(&errors).unwrap())
    }

    /// Each alternative in a few words: its model, CPUs, and memory.
    fn alternatives(resources: &Value) -> Vec<String> {
        let describe = |resources: &Resources| {
            let model = resources.accelerators.as_ref().and_then(|all| all.model.clone());
            let amounts = [&resources.cpus, &resources.memory].map(|amount| amount.as_ref().map(ToString::to_string));
            let words = [model].into_iter().chain(amounts).flatten();
            words.collect::<Vec<_>>().join(" ")
        };
        let alternatives = parse(resources).unwrap().alternatives.unwrap();
        alternatives.resources.iter().map(describe).collect()
    }

    #[test]
    fn several_models_in_any_order_are_combined_with_any_of() {
        for models in [json!({"L4": 1, "T4": 1}), json!({"L4:1": null, "T4:1": null})] {
            let resources = json!({"accelerators": models, "any_of": [{"cpus": 1}, {"cpus": 2}, {"gpus": "A100"}]});
            assert_eq!(alternatives(&resources), ["L4 1", "T4 1", "L4 2", "T4 2", "A100"]);
        }
        let wrong = json!({"accelerators": {"L4": 1, "T4": 0}, "any_of": [{"cpus": 1}]});
        let error = parse(&wrong).unwrap_err();
        assert!(error.contains(r#"["body","resources","accelerators","T4"]"#), "{error}");
        let wrong = json!({"accelerators": {"L4": 1, "T4": 1}, "cpus": "x", "any_of": [{"memory": 1}]});
        let error = parse(&wrong).unwrap_err();
        assert!(error.contains(r#"["body","resources","cpus"]"#), "{error}");
        let many = json!({"accelerators": {"L4": 1, "T4": 1}, "any_of": vec![json!({"cpus": 1}); 33]});
        assert!(parse(&many).unwrap_err().contains("at most 64 alternatives"));
    }

    #[test]
    fn an_order_is_combined_with_nothing() {
        let (list, several, items) = (json!(["L4", "T4"]), json!({"L4": 1, "T4": 1}), json!([{"cpus": 1}]));
        for resources in [
            json!({"accelerators": list, "any_of": items}),
            json!({"accelerators": list, "ordered": items}),
            json!({"accelerators": several, "ordered": items}),
            json!({"any_of": items, "ordered": items}),
            json!({"accelerators": several, "any_of": items, "ordered": items}),
        ] {
            let error = parse(&resources).unwrap_err();
            assert!(error.contains("alternatives are already in"), "{error}");
        }
    }

    #[test]
    fn an_instance_type_of_another_cloud_has_no_effect_and_as_an_alternative_is_left_out() {
        let foreign = json!({"instance_type": "m5.large"});
        let warnings = parse(&foreign).unwrap().warnings;
        assert!(
            warnings[0].contains("has no effect: `m5.large` is an instance type of another cloud"),
            "{warnings:?}"
        );
        let task = parse(&json!({"any_of": [foreign, {"instance_type": "2CPU--4GB"}]})).unwrap();
        assert_eq!(task.resources.cpus.unwrap().as_str(), "2");
        assert_eq!(
            task.warnings,
            ["alternatives on other clouds are ignored: `any_of.0` has the instance type `m5.large`"]
        );
        let error = parse(&json!({"ordered": [foreign]})).unwrap_err();
        assert!(
            error.contains("no alternative is on Kubernetes: `ordered.0` has"),
            "{error}"
        );
    }

    #[test]
    fn what_the_instance_type_of_an_alternative_states_replaces_the_rest() {
        let resources = json!({
            "cpus": 2, "memory": "4x", "accelerators": "A100",
            "any_of": [{"instance_type": "8CPU--32GB"}, {"instance_type": "8CPU--32GB--L4:1"}, {"cpus": 3}],
        });
        assert_eq!(
            alternatives(&resources),
            ["A100 8 32Gi", "L4 8 32Gi", "A100 3 12884901888"]
        );
        let resources = json!({"instance_type": "8CPU--32GB", "any_of": [{"cpus": 3}]});
        assert_eq!(alternatives(&resources), ["3 32Gi"]);
    }
}
