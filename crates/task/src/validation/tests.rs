//! Tests of the lax conversions and their errors.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::coerce::{boolean, integer, list, map, string, string_or_number};
use super::{Fields, Validator, validate};

fn kinds<T>(value: &Value, parser: impl FnOnce(&Value, &mut Validator) -> Option<T>) -> Vec<&'static str> {
    match validate(value, "body", parser) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(|error| error.kind).collect(),
    }
}

#[test]
fn integers_are_converted_as_pydantic_does() {
    for (input, expected) in [
        (json!(2), 2),
        (json!("2"), 2),
        (json!(" +2 "), 2),
        (json!("1_000"), 1000),
        (json!("2.0"), 2),
        (json!(2.0), 2),
        (json!(true), 1),
        (json!("-3"), -3),
        (json!(1e30), i64::MAX),
    ] {
        assert_eq!(validate(&input, "body", integer), Ok(expected), "{input}");
    }
}

#[test]
fn what_is_no_integer_is_named_for_its_reason() {
    for (input, expected) in [
        (json!("two"), "int_parsing"),
        (json!("1.5"), "int_parsing"),
        (json!("1__0"), "int_parsing"),
        (json!("2."), "int_parsing"),
        (json!(""), "int_parsing"),
        (json!(1.5), "int_from_float"),
        (json!(null), "int_type"),
        (json!({}), "int_type"),
    ] {
        assert_eq!(kinds(&input, integer), [expected], "{input}");
    }
}

#[test]
fn booleans_are_words_digits_or_booleans() {
    for (input, expected) in [
        (json!("YES"), true),
        (json!("off"), false),
        (json!(1), true),
        (json!(0.0), false),
        (json!(true), true),
    ] {
        assert_eq!(validate(&input, "body", boolean), Ok(expected), "{input}");
    }
    for (input, expected) in [
        (json!("tru"), "bool_parsing"),
        (json!(2), "bool_parsing"),
        (json!(0.5), "bool_type"),
        (json!([]), "bool_type"),
    ] {
        assert_eq!(kinds(&input, boolean), [expected], "{input}");
    }
}

#[test]
fn a_number_is_text_only_where_it_is_allowed() {
    assert_eq!(validate(&json!(4), "body", string_or_number), Ok("4".to_owned()));
    assert_eq!(kinds(&json!(4), string), ["string_type"]);
    assert_eq!(kinds(&json!(false), string_or_number), ["string_type"]);
}

#[test]
fn all_errors_of_a_list_and_a_map_are_reported() {
    assert_eq!(
        kinds(&json!([1, "a", 2]), |value, validator| list(
            value, validator, 3, string
        ))
        .len(),
        2
    );
    let errors = validate(&json!({"a": 1, "b": []}), "body", |value, validator| {
        map(value, validator, 2, |_, value, validator| string(value, validator))
    })
    .unwrap_err();
    assert_eq!(errors[1].loc, ["body".into(), "b".into()]);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let errors = validate(&json!({"num_node": 1, "secrets": {}}), "body", |value, validator| {
        let mut fields = Fields::from_value(value, validator)?;
        fields.optional("num_nodes", integer);
        fields.deny_unknown_fields(|key| (key == "secrets").then_some("use `envs`"));
        Some(())
    })
    .unwrap_err();
    insta::assert_json_snapshot!(errors, @r#"
    [
      {
        "type": "extra_forbidden",
        "loc": [
          "body",
          "num_node"
        ],
        "msg": "Extra inputs are not permitted: did you mean `num_nodes`?",
        "input": 1
      },
      {
        "type": "extra_forbidden",
        "loc": [
          "body",
          "secrets"
        ],
        "msg": "Extra inputs are not permitted: use `envs`",
        "input": {}
      }
    ]
    "#);
}

proptest! {
    #[test]
    fn every_integer_is_read_back_from_its_text(number: i64) {
        prop_assume!(number != i64::MIN);
        prop_assert_eq!(validate(&json!(number.to_string()), "body", integer), Ok(number));
    }

    #[test]
    fn no_text_makes_a_conversion_panic(text: String) {
        let value = json!(text);
        let _ = validate(&value, "body", integer);
        let _ = validate(&value, "body", boolean);
    }
}
