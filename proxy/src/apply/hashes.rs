//! HSET, HGET and their relatives. A hash is read, and written anew, as a whole.

use bytes::Bytes;
use rand::{Rng, seq::index::sample};

use super::{
    Outcome, Scope, key,
    update::{Changed, New, Old, update, whole},
};
use crate::{
    command::{CommandError, HashCommand, glob, hashes::HashAction, keys::Scan},
    encoding::{Undecodable, hash::Hash},
    keyspace::Kind,
    resp::{Reply, number::parse_i64},
    strings::extended::Extended,
    value::Value,
};

/// More fields are not returned by one HRANDFIELD that may repeat them.
const MAX_RANDOM: i64 = 1 << 20;

/// Nor more bytes of them.
const MAX_RANDOM_BYTES: usize = 64 << 20;

pub(super) async fn apply(scope: Scope<'_>, command: HashCommand) -> Outcome {
    let HashCommand { key: k, action } = command;
    let limit = scope.context.config.structure_max_bytes;
    let key = key(scope.db, &k);
    if matches!(
        action,
        HashAction::Set { .. }
            | HashAction::SetNew { .. }
            | HashAction::Del { .. }
            | HashAction::Add { .. }
            | HashAction::AddFloat { .. }
    ) {
        let change = |old: &Old| {
            let before = decode(old)?;
            let mut hash = before.clone();
            let (reply, event) = change(&mut hash, &action)?;
            let new = if hash == before {
                New::Same
            } else if hash.is_empty() {
                New::Gone
            } else {
                let bytes = hash.encode();
                if bytes.len() as u64 > limit {
                    return Err(CommandError::StructureTooLong);
                }
                New::Bytes(bytes)
            };
            Ok(Changed { new, reply, event })
        };
        return update(scope, key, Kind::Hash, u64::MAX, change).await;
    }
    let old = match whole(scope, key, Kind::Hash, u64::MAX).await {
        Ok(old) => old,
        Err(reply) => return reply.into(),
    };
    let reply = match decode(&old) {
        Ok(hash) => read(&hash, action),
        Err(error) => error.into(),
    };
    match old {
        Old::Whole(_, Some(room)) => Outcome::Part(reply, room),
        _ => reply.into(),
    }
}

fn decode(old: &Old) -> Result<Hash, CommandError> {
    match old {
        Old::None => Ok(Hash::default()),
        Old::Whole(bytes, _) => Ok(Hash::decode(bytes.clone())?),
        Old::TooLong => Err(CommandError::StructureTooLong),
    }
}

impl From<Undecodable> for CommandError {
    fn from(error: Undecodable) -> Self {
        Self::Internal(error.to_string())
    }
}

/// The reply, and Redis's name of what happened, if anything did.
fn change(
    hash: &mut Hash,
    action: &HashAction,
) -> Result<(Reply, Option<&'static str>), CommandError> {
    Ok(match action {
        HashAction::Set { pairs, says_ok } => {
            let new = hash.set(pairs.clone());
            let reply = match says_ok {
                true => Reply::OK,
                false => count(new),
            };
            (reply, Some("hset"))
        }
        HashAction::SetNew { field, value } => {
            let is_new = hash.get(field).is_none();
            if is_new {
                hash.set(vec![(field.clone(), value.clone())]);
            }
            (Reply::Integer(is_new.into()), is_new.then_some("hset"))
        }
        HashAction::Del { fields } => {
            let removed = hash.remove(fields);
            (count(removed), (removed > 0).then_some("hdel"))
        }
        HashAction::Add { field, increment } => {
            let old = match hash.get(field) {
                None => 0,
                Some(digits) => parse_i64(digits).ok_or(CommandError::HashNotAnInteger)?,
            };
            let sum = old.checked_add(*increment).ok_or(CommandError::Overflow)?;
            hash.set(vec![(field.clone(), sum.to_string().into())]);
            (Reply::Integer(sum), Some("hincrby"))
        }
        HashAction::AddFloat { field, increment } => {
            let old = hash.get(field).map_or(&b"0"[..], |text| &text[..]);
            let old = Extended::parse(old).ok_or(CommandError::HashNotAFloat)?;
            let sum = old.plus(*increment).ok_or(CommandError::NotFinite)?;
            let text = Bytes::from(sum.to_string());
            hash.set(vec![(field.clone(), text.clone())]);
            (bulk(&text), Some("hincrbyfloat"))
        }
        // they change nothing
        _ => (Reply::Null, None),
    })
}

fn read(hash: &Hash, action: HashAction) -> Reply {
    let get = |field: &Bytes| hash.get(field).map_or(Reply::Null, bulk);
    match action {
        HashAction::Get { field } => get(&field),
        HashAction::GetSeveral { fields } => Reply::Array(fields.iter().map(get).collect()),
        HashAction::GetAll => Reply::Map(hash.iter().map(|(f, v)| (bulk(f), bulk(v))).collect()),
        HashAction::Fields => Reply::Array(hash.iter().map(|(f, _)| bulk(f)).collect()),
        HashAction::Values => Reply::Array(hash.iter().map(|(_, v)| bulk(v)).collect()),
        HashAction::Len => count(hash.len()),
        HashAction::Exists { field } => Reply::Integer(hash.get(&field).is_some().into()),
        HashAction::StrLen { field } => count(hash.get(&field).map_or(0, Bytes::len)),
        HashAction::Random { count, with_values } => random(hash, count, with_values),
        HashAction::Scan(Err(error)) if !hash.is_empty() => error.into(),
        HashAction::Scan(step) => scan(hash, step.ok().as_ref()),
        // they are carried out elsewhere
        HashAction::Set { .. }
        | HashAction::SetNew { .. }
        | HashAction::Del { .. }
        | HashAction::Add { .. }
        | HashAction::AddFloat { .. } => Reply::Null,
    }
}

fn random(hash: &Hash, wanted: Option<i64>, with_values: bool) -> Reply {
    let mut rng = scatterhoard_node::random::rng();
    let Some(wanted) = wanted else {
        let place = (!hash.is_empty()).then(|| rng.random_range(0..hash.len()));
        let pair = place.and_then(|place| hash.at(place));
        return pair.map_or(Reply::Null, |(field, _)| bulk(field));
    };
    if hash.is_empty() {
        return Reply::Array(Vec::new());
    }
    let places: Vec<usize> = if wanted < 0 {
        let times = wanted.saturating_neg().min(MAX_RANDOM);
        (0..times)
            .map(|_| rng.random_range(0..hash.len()))
            .collect()
    } else {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        match wanted >= hash.len() {
            true => (0..hash.len()).collect(),
            false => sample(&mut rng, hash.len(), wanted).into_vec(),
        }
    };
    let pairs = places.into_iter().filter_map(|place| hash.at(place));
    let bytes = pairs.clone().map(|(field, value)| match with_values {
        true => field.len() + value.len(),
        false => field.len(),
    });
    if wanted < 0 && bytes.sum::<usize>() > MAX_RANDOM_BYTES {
        return CommandError::TooManyFields.into();
    }
    match with_values {
        true => Reply::Pairs(pairs.map(|(f, v)| (bulk(f), bulk(v))).collect()),
        false => Reply::Array(pairs.map(|(f, _)| bulk(f)).collect()),
    }
}

fn scan(hash: &Hash, step: Option<&Scan>) -> Reply {
    let Some(step) = step else {
        let cursor = Reply::Bulk("0".into());
        return Reply::Array(vec![cursor, Reply::Array(Vec::new())]);
    };
    let wanted = usize::try_from(step.count).unwrap_or(usize::MAX);
    let (pairs, next) = hash.scan(step.cursor, wanted);
    let pattern = step.pattern.as_ref();
    let fits = |field: &Bytes| pattern.is_none_or(|pattern| glob::matches(pattern, field));
    let pairs = pairs.into_iter().filter(|(field, _)| fits(field));
    let flat = pairs.flat_map(|(field, value)| [bulk(field), bulk(value)]);
    let cursor = Reply::Bulk(Value::from(Bytes::from(next.to_string())));
    Reply::Array(vec![cursor, Reply::Array(flat.collect())])
}

fn bulk(bytes: &Bytes) -> Reply {
    Reply::Bulk(Value::from(bytes.clone()))
}

fn count(n: usize) -> Reply {
    Reply::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}
