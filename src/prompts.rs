//! What is asked: which conversation an arrival sends, as a function of (seed, k).

use std::sync::Arc;

/// The order in which a source is gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// One after the other, from the first again after the last.
    #[default]
    Sequential,
    /// Drawn independently for each arrival from the seed and its number.
    Random,
}

/// A source of user messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompts {
    /// The name in the YAML, or `builtin`.
    pub name: String,
    texts: Arc<[String]>,
    order: Order,
}

impl Prompts {
    /// A source of at least one text.
    pub fn new(name: impl Into<String>, texts: Vec<String>, order: Order) -> Option<Prompts> {
        (!texts.is_empty()).then(|| Prompts {
            name: name.into(),
            texts: texts.into(),
            order,
        })
    }

    /// The built-in source: short questions of everyday kinds.
    pub fn builtin() -> Prompts {
        let texts = ["What is the capital of Italy?"]
            .map(str::to_owned)
            .to_vec();
        Prompts {
            name: "builtin".into(),
            texts: texts.into(),
            order: Order::Sequential,
        }
    }
}
