//! Checks values against the schemas of the OpenAPI document, in tests. Knows the keywords that the schemas use.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;
use utoipa::ToSchema;

/// A schema and those that it refers to.
pub(crate) struct Schemas {
    root: Value,
    by_name: BTreeMap<String, Value>,
}

impl Schemas {
    pub(crate) fn of<T: ToSchema>() -> Self {
        let mut parts = Vec::new();
        T::schemas(&mut parts);
        let json = |schema| serde_json::to_value(schema).unwrap();
        Self {
            root: json(T::schema()),
            by_name: parts.into_iter().map(|(name, schema)| (name, json(schema))).collect(),
        }
    }

    /// Adds a schema that the definitions share with the responses.
    pub(crate) fn and<T: ToSchema>(mut self) -> Self {
        let schema = serde_json::to_value(T::schema()).unwrap();
        self.by_name.insert(T::name().into_owned(), schema);
        self
    }

    pub(crate) fn root(&self) -> &Value {
        &self.root
    }

    /// The schema itself, or the one that it refers to.
    pub(crate) fn resolve<'s>(&'s self, schema: &'s Value) -> &'s Value {
        match schema["$ref"].as_str() {
            Some(path) => &self.by_name[path.strip_prefix("#/components/schemas/").unwrap()],
            None => schema,
        }
    }

    /// Why a value violates the schema.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        self.check_against(&self.root, value)
    }

    fn check_against(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.resolve(schema);
        let types = match &schema["type"] {
            Value::Array(types) => types.clone(),
            Value::Null => return Ok(()),
            one => vec![one.clone()],
        };
        let fits = types.iter().any(|kind| match kind.as_str().unwrap() {
            "null" => value.is_null(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("unexpected type {other}"),
        });
        if !fits {
            return Err(format!("{value} is not of type {types:?}"));
        }
        if let Some(known) = schema["enum"].as_array()
            && !known.contains(value)
        {
            return Err(format!("{value} is not one of {known:?}"));
        }
        match value {
            Value::String(text) => {
                check_range(schema, "Length", text.chars().count())?;
                check_pattern(schema, text)
            }
            Value::Number(number) => check_number(schema, number.as_i64().unwrap()),
            Value::Array(items) => {
                check_range(schema, "Items", items.len())?;
                items
                    .iter()
                    .try_for_each(|item| self.check_against(&schema["items"], item))
            }
            Value::Object(fields) => {
                check_range(schema, "Properties", fields.len())?;
                let required = schema["required"].as_array().into_iter().flatten();
                for key in required.filter_map(Value::as_str) {
                    fields.get(key).ok_or_else(|| format!("{key} is missing"))?;
                }
                fields.iter().try_for_each(|(key, field)| {
                    check_pattern(&schema["propertyNames"], key)?;
                    let known = schema["properties"].get(key);
                    let Some(schema) = known.or_else(|| schema.get("additionalProperties")) else {
                        return Err(format!("{key} is not documented"));
                    };
                    match schema {
                        Value::Bool(false) => Err(format!("{key} is not allowed")),
                        _ => self
                            .check_against(schema, field)
                            .map_err(|reason| format!("{key}: {reason}")),
                    }
                })
            }
            Value::Null | Value::Bool(_) => Ok(()),
        }
    }
}

fn check_range(schema: &Value, what: &str, count: usize) -> Result<(), String> {
    let bound = |side: &str| schema[format!("{side}{what}")].as_u64();
    let count = count as u64;
    if bound("min").is_some_and(|least| count < least) || bound("max").is_some_and(|most| count > most) {
        return Err(format!("{what} is {count}"));
    }
    Ok(())
}

fn check_number(schema: &Value, number: i64) -> Result<(), String> {
    let bound = |side: &str| schema[side].as_i64();
    if bound("minimum").is_some_and(|least| number < least) || bound("maximum").is_some_and(|most| number > most) {
        return Err(format!("{number} is out of range"));
    }
    Ok(())
}

fn check_pattern(schema: &Value, text: &str) -> Result<(), String> {
    match schema["pattern"].as_str() {
        Some(pattern) if !Regex::new(pattern).unwrap().is_match(text) => {
            Err(format!("{text:?} does not match {pattern}"))
        }
        _ => Ok(()),
    }
}
