//! What becomes of a large argument, decided when it is announced: who may not have
//! the command carried out, or sends what it cannot use, takes no memory.

use super::{Context, acl, cluster, monitor};
use crate::{
    clients::Client,
    command::{CommandError, CommandSpec, stores_next},
    value::Value,
};

/// What becomes of an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intake {
    /// It is a value to be stored, and may go to nodes while it arrives.
    Stored,
    /// It is collected.
    Kept,
    /// It is read and thrown away. With an error the whole request is answered so,
    /// in its turn; otherwise the command's parser says what is wrong.
    Refused(Option<CommandError>),
}

/// What becomes of the next argument, of `len` bytes, of a request of `argc`
/// arguments of which these are here. Those before `checked` have been looked at.
pub fn intake(
    context: &Context,
    client: &Client,
    args_so_far: &[Value],
    argc: usize,
    len: u64,
    checked: usize,
) -> Intake {
    // what is wrong with the number of arguments or the name is found out by the parser
    let Some(spec) = CommandSpec::begun(args_so_far, argc) else {
        return Intake::Refused(None);
    };
    if let Err(error) = acl::check_from(context, client, spec, args_so_far, checked) {
        return Intake::Refused(Some(error));
    }
    if let Err(error) = cluster::check_from(context, client, spec, args_so_far, checked) {
        return Intake::Refused(Some(error));
    }
    if let Err(error) = monitor::check(client, spec, args_so_far) {
        return Intake::Refused(Some(error));
    }
    if !spec.takes_long(args_so_far.len(), len) {
        return Intake::Refused(None);
    }
    // what is refused anyway evicts nothing
    let longest_in_memory = context.store.settings().hot_value_bytes;
    match stores_next(args_so_far) && len > longest_in_memory && context.store.refusal().is_none() {
        true => Intake::Stored,
        false => Intake::Kept,
    }
}
