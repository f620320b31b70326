//! Small values in a pipeline go to nodes together: what has arrived of it is
//! looked at, and as long as request after request stores one small value, all
//! of these are written at once. The requests are carried out in order
//! nevertheless: a write shows only when its own request commits it.

use futures_util::future::join_all;

use super::{Session, SessionError};
use crate::{
    apply, command,
    resp::{ProtocolError, Step},
    store::Ack,
    value::Value,
};

/// Requests that are looked at together.
const TOGETHER: usize = 64;

/// A request, and which of its arguments is the small value that it stores.
type SmallWrite = (Vec<Value>, usize);

impl Session {
    /// The next step of the parser, which may have been taken already.
    pub(super) fn step(&mut self) -> Result<Step, ProtocolError> {
        match self.next_step.take() {
            Some(step) => step,
            None => {
                self.parser.is_from_stranger(self.client.user.is_none());
                self.parser.step(&mut self.input)
            }
        }
    }

    /// The request and those behind it that have arrived, as far as they store
    /// a small value each; gives it back if there are not two of them.
    pub(super) fn run_of_writes(
        &mut self,
        request: Vec<Value>,
    ) -> Result<Vec<SmallWrite>, Vec<Value>> {
        let store = &self.context.store;
        // what others may write is found out request by request
        let may_write = self
            .client
            .user
            .as_ref()
            .is_some_and(|u| u.is_unrestricted());
        let together =
            may_write && store.settings().ack == Ack::Quorum && store.refusal().is_none();
        if self.input.is_empty() || !together || self.client.queue.is_some() {
            return Err(request);
        }
        let Some(place) = self.small_value(&request) else {
            return Err(request);
        };
        let mut run = vec![(request, place)];
        while run.len() < TOGETHER && self.next_step.is_none() {
            match self.parser.step(&mut self.input) {
                Ok(Step::Request(request)) => match self.small_value(&request) {
                    Some(place) => run.push((request, place)),
                    None => self.next_step = Some(Ok(Step::Request(request))),
                },
                other => self.next_step = Some(other),
            }
        }
        match run.len() {
            1 => Err(run.swap_remove(0).0),
            _ => Ok(run),
        }
    }

    /// Writes all values at once, then carries the requests out one by one; true
    /// if one of them was the last.
    pub(super) async fn answer_together(
        &mut self,
        run: Vec<SmallWrite>,
    ) -> Result<bool, SessionError> {
        let store = &self.context.store;
        let writes = run
            .iter()
            .map(|(request, place)| store.write(request[*place].clone()));
        let writes = join_all(writes).await;
        for ((mut request, place), written) in run.into_iter().zip(writes) {
            let value = std::mem::take(&mut request[place]);
            // its bytes are kept as long as the request, to be shown
            let (number, len, start) = (0, value.len(), value.into_contiguous());
            request[place] = Value::Uploaded { number, len, start };
            self.client.uploads.push(Some(written));
            if self.answer(request).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Which argument is the small value that a request stores.
    fn small_value(&self, request: &[Value]) -> Option<usize> {
        let longest = self.context.store.settings().hot_value_bytes;
        let is_small = |i: &usize| {
            let value = &request[*i];
            matches!(value, Value::One(_))
                && value.len() <= longest
                && (self.context.config.cluster.is_none()
                    || apply::is_here(&self.context, &self.client, request))
        };
        command::stores_one(request).filter(is_small)
    }
}
