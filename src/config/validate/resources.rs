//! Reads the resources of this machine that become metrics.

use crate::config::document;
use crate::config::field::Field;
use crate::plan::Resources;

pub(super) fn resources(field: &Field<document::Resources>) -> Resources {
    let is_true = |key: &Field<bool>| key.present().is_some_and(|located| located.value);
    field.present().map_or_else(Resources::default, |located| Resources {
        host: is_true(&located.value.host),
        gpu: is_true(&located.value.gpu),
    })
}
