//! The OpenAPI schema of text that is one of a few words.

use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};

/// The schema of text that is one of `values`.
pub(crate) fn text_schema(description: &str, values: &[&str]) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .enum_values(Some(values.iter().copied()))
        .into()
}
