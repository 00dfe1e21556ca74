//! JSON: objects taken at their word, texts that need not be any, and errors that tell nothing of
//! what was read.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::Value;

use crate::text::has_control_character;

/// Where a document stops being the JSON that it should be.
///
/// serde_json's own message may quote the document, and a token's content is no business of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at line {line} column {column}")]
pub struct JsonError {
    problem: &'static str,
    line: usize,
    column: usize,
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        let problem = match error.classify() {
            Category::Data => "missing, duplicate or misplaced value",
            Category::Eof => "unexpected end",
            Category::Io | Category::Syntax => "syntax error",
        };
        Self { problem, line: error.line(), column: error.column() }
    }
}

/// Reads a document.
pub(crate) fn read<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, JsonError> {
    // All at once this is cheaper than text by text. What is not UTF-8 is read too, since it may
    // stand in a member that nobody wants.
    let value = match std::str::from_utf8(json) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(json),
    };
    Ok(value?)
}

/// A struct that must be a JSON object. Serde takes an array of its members for one, too.
#[derive(Debug, Default)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// A text without control characters. Any other value is no error but none.
#[derive(Debug, Default)]
pub(crate) struct Text(pub(crate) Option<String>);

impl From<Value> for Text {
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) if !has_control_character(&text) => Self(Some(text)),
            _ => Self(None),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}
