//! How a level takes its settings from the level around it.

/// Fills an unset value from the outer level, as `ngx_conf_merge_value()` does.
pub(crate) fn inherit<T: Clone>(slot: &mut Option<T>, outer: &Option<T>) {
    if slot.is_none() {
        slot.clone_from(outer);
    }
}
