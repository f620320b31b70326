//! Commands of several keys: a cluster takes those whose keys share a slot, so
//! others are cut up.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::slot_of;
use crate::{
    Client, Error, ErrorCode,
    command::Lane,
    protocol::{Reply, Request},
    retry::Repeat,
};

/// Parts of one command that are under way at the same time.
const PARTS: usize = 8;

/// A command of several keys, each with as many arguments.
pub(crate) struct Several {
    pub(crate) command: &'static str,
    /// Keys, each with what belongs to it.
    pub(crate) items: Vec<Vec<Bytes>>,
    /// None: by the length of the request.
    pub(crate) lane: Option<Lane>,
    pub(crate) repeat: Repeat,
}

/// What came of some of the items.
pub(crate) struct Part {
    /// Which.
    pub(crate) places: Vec<usize>,
    pub(crate) result: Result<Reply, Error>,
}

impl Several {
    fn request(&self, places: &[usize]) -> Request {
        let items = places.iter().filter_map(|place| self.items.get(*place));
        items.flatten().fold(Request::new(self.command), |r, word| {
            r.arg(Bytes::clone(word))
        })
    }

    /// The places of items, by slot.
    fn by_slot(&self) -> Vec<Vec<usize>> {
        let mut slots = BTreeMap::<u16, Vec<usize>>::new();
        for (place, item) in self.items.iter().enumerate() {
            let key = item.first().map_or(&[][..], |key| key);
            slots.entry(slot_of(key)).or_default().push(place);
        }
        slots.into_values().collect()
    }
}

impl Client {
    /// Carries out a command of several keys: at once, or slot by slot where that
    /// must be. All parts are tried, whatever becomes of others.
    pub(crate) async fn several(&self, several: Several) -> Vec<Part> {
        if several.items.is_empty() {
            return Vec::new();
        }
        let cluster = &self.inner.cluster;
        let mut parts = vec![];
        if !cluster.is_cluster() {
            let places: Vec<usize> = (0..several.items.len()).collect();
            let result = self.part(&several, &places).await;
            if !is_across(&result) {
                return vec![Part { places, result }];
            }
            cluster.is_one();
        }
        let by_slot = several.by_slot().into_iter().map(|places| async {
            let result = self.part(&several, &places).await;
            Part { places, result }
        });
        let mut all = stream::iter(by_slot).buffer_unordered(PARTS);
        while let Some(part) = all.next().await {
            parts.push(part);
        }
        parts
    }

    async fn part(&self, several: &Several, places: &[usize]) -> Result<Reply, Error> {
        let request = several.request(places);
        let lane = several.lane.unwrap_or_else(|| Lane::of(request.bytes(), 0));
        self.call(request, lane, several.repeat).await
    }
}

fn is_across(result: &Result<Reply, Error>) -> bool {
    let error = result.as_ref().err();
    error.and_then(Error::code) == Some(&ErrorCode::CrossSlot)
}

/// What came of all parts; of writes that were carried out in part, an error that
/// says so.
pub(crate) fn together<T>(results: Vec<Result<T, Error>>) -> Result<Vec<T>, Error> {
    let of = results.len() as u64;
    let done = results.iter().filter(|result| result.is_ok()).count() as u64;
    let may_be_done = |result: &Result<T, Error>| match result {
        Ok(_) => true,
        Err(error) => error.may_have_happened(),
    };
    let has_begun = of > 1 && results.iter().any(may_be_done);
    let all: Result<Vec<T>, Error> = results.into_iter().collect();
    all.map_err(|why| match has_begun {
        true => {
            let why = Box::new(why);
            Error::Partial { done, of, why }
        }
        false => why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_share_a_slot_stay_together() {
        let keys = ["foo", "a{foo}", "bar", "b{foo}", "{bar}x"];
        let several = Several {
            command: "MGET",
            items: keys.map(|key| vec![Bytes::from(key)]).into(),
            lane: None,
            repeat: Repeat::Always,
        };
        // bar is in slot 5061, foo in 12182
        assert_eq!(several.by_slot(), [vec![2, 4], vec![0, 1, 3]]);
        let request = several.request(&[2, 4]);
        let words = [&b"MGET"[..], b"bar", b"{bar}x"];
        assert!(request.arguments().iter().eq(&words));
    }

    #[test]
    fn what_was_done_in_part_is_told() {
        let unsent = || Err(Error::ended(false));
        assert_eq!(together(vec![Ok(1), Ok(2)]).unwrap(), [1, 2]);
        let error = together::<u8>(vec![unsent(), unsent()]).unwrap_err();
        assert!(matches!(error, Error::Broken { sent: false, .. }));
        let error = together::<u8>(vec![Err(Error::ended(true))]).unwrap_err();
        assert!(matches!(error, Error::Broken { sent: true, .. }));
        for results in [
            vec![unsent(), Ok(1)],
            vec![Err(Error::ended(true)), unsent()],
        ] {
            let error = together(results).unwrap_err();
            assert!(matches!(error, Error::Partial { of: 2, .. }), "{error}");
            assert!(error.may_have_happened() && error.is_retryable());
        }
    }
}
