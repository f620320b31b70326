//! A node inside another process, without a runtime loop and without sockets: for
//! simulations of the platform.

use std::{cell::RefCell, io};

use scatterhoard_wire::{
    ChunkDescriptor, InstanceId, Versions,
    invoke::{Ending, Invocation, Report},
};

use crate::{
    conduit::{Reader, Writer},
    end::End,
    instance::Instance,
    runtime,
};

/// One instance of a function. Dropping it in the middle of an invocation is its
/// death.
pub struct Embedded(RefCell<Instance>);

impl Embedded {
    /// An instance that begins now, with so many MiB of memory, whose code says that it
    /// speaks these versions.
    pub fn new(memory_mb: u64, speaks: Versions) -> Self {
        Self(RefCell::new(Instance::new(memory_mb, speaks)))
    }

    /// Its name in hellos and reports.
    pub fn id(&self) -> InstanceId {
        self.0.borrow().id()
    }

    /// Carries out one invocation; one at a time, as the platform has it. `dial`
    /// connects to the proxy.
    pub async fn invoke(
        &self,
        invocation: &Invocation,
        deadline_unix_ms: u64,
        dial: impl AsyncFnOnce() -> io::Result<(Reader, Writer)>,
    ) -> Report {
        let instance = &self.0;
        let agreed = instance.borrow().speaks().agree(invocation.speaks);
        let Ok(version) = agreed else {
            return instance.borrow().report(Ending::NoVersion);
        };
        let dial = async |_: &RefCell<Instance>, _: &Invocation| dial().await.map(End::beside);
        runtime::answer(instance, invocation, version, deadline_unix_ms, dial).await
    }

    /// All complete chunks that it holds.
    pub fn chunks(&self) -> Vec<ChunkDescriptor> {
        self.0.borrow().store.list(None, usize::MAX).0
    }
}
