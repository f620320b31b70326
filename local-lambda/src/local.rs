//! The platform as a program holds it: start, steer, stop.

use crate::Error;
use crate::faults::Faults;
use crate::fleet::InstanceId;
use crate::function::FunctionConfig;
use crate::http;
use crate::invoke_api;
use crate::ledger::Ledger;
use crate::platform::Platform;
use crate::reaper;
use crate::reclaim::{Reclaim, ReclaimPolicy};
use crate::settings::Settings;
use crate::world::InstanceInfo;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// A running platform. Dropping it kills every instance; [`shutdown`] also
/// waits for its tasks.
///
/// [`shutdown`]: LocalLambda::shutdown
#[derive(Debug)]
pub struct LocalLambda {
    platform: Arc<Platform>,
    address: SocketAddr,
}

impl LocalLambda {
    /// Listens and serves, on the current tokio runtime (which needs its I/O
    /// and time drivers). Raises this process's soft limit of open files to the
    /// hard one: every instance takes three; instances get Lambda's 1,024.
    ///
    /// # Errors
    /// [`Error::NotLoopback`], [`Error::Listen`], [`Error::Spawner`], or
    /// [`Error::NoCgroup`] if cgroups are demanded.
    pub async fn start(settings: Settings) -> Result<LocalLambda, Error> {
        if !settings.listen.ip().is_loopback() {
            return Err(Error::NotLoopback(settings.listen));
        }
        raise_open_files();
        let failed = |source| Error::Listen {
            addr: settings.listen,
            source,
        };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let connections = settings.max_connections;
        let platform = Arc::new(Platform::new(settings)?);
        let served = Arc::clone(&platform);
        let handler = move |request| invoke_api::handle(Arc::clone(&served), request);
        let (stop, tracker) = (platform.stop.clone(), platform.tracker.clone());
        platform
            .tracker
            .spawn(http::serve(listener, connections, stop, tracker, handler));
        platform
            .tracker
            .spawn(reaper::follow_policy(Arc::clone(&platform)));
        if platform.poll_memory {
            platform
                .tracker
                .spawn(reaper::watch_memory(Arc::clone(&platform)));
        }
        tracing::info!(%address, "local-lambda listens");
        Ok(LocalLambda { platform, address })
    }

    /// The endpoint for an SDK client: `http://127.0.0.1:PORT`.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A handle to steer it by; it does not keep the platform running.
    pub fn handle(&self) -> Handle {
        Handle {
            platform: Arc::clone(&self.platform),
        }
    }

    /// Refuses new invocations, kills every process, answers who still waits,
    /// and returns when all tasks have ended, after `grace` at the latest.
    pub async fn shutdown(self, grace: Duration) {
        self.platform.close();
        if tokio::time::timeout(grace, self.platform.tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!("tasks of local-lambda did not end in time");
        }
    }
}

impl Drop for LocalLambda {
    fn drop(&mut self) {
        self.platform.close();
    }
}

fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Fewer instances are possible then; that shows when it happens.
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        );
    }
}

/// Steers a platform; cheap to clone, callable from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    platform: Arc<Platform>,
}

impl Handle {
    /// Adds a function or changes one. Instances that no longer fit are killed:
    /// idle ones now, busy ones when they finish.
    ///
    /// # Errors
    /// [`Error::InvalidFunction`] or [`Error::ReservedConcurrency`]; nothing is
    /// changed then.
    pub fn put_function(&self, config: FunctionConfig) -> Result<(), Error> {
        self.platform.put(config)
    }

    /// Removes a function and kills its instances, busy ones too.
    ///
    /// # Errors
    /// [`Error::UnknownFunction`].
    pub fn remove_function(&self, name: &str) -> Result<(), Error> {
        self.platform.remove(name)
    }

    /// The functions, by name.
    pub fn functions(&self) -> Vec<FunctionConfig> {
        self.platform
            .world
            .lock()
            .fleet
            .configs()
            .cloned()
            .collect()
    }

    /// The instances, oldest first. Reads a file in `/proc` for each.
    pub fn instances(&self) -> Vec<InstanceInfo> {
        self.platform.instances()
    }

    /// Takes instances away at once, without notice. Returns which; their
    /// processes have been sent SIGKILL by then.
    pub fn reclaim(&self, order: &Reclaim) -> Vec<InstanceId> {
        self.platform.reclaim(order)
    }

    /// Replaces the reclaim policy; a schedule counts from now.
    pub fn set_reclaim_policy(&self, policy: ReclaimPolicy) {
        self.platform.reclaim_policy.send_replace(policy);
    }

    /// The faults in force, with what is left of their counters.
    pub fn faults(&self) -> Faults {
        self.platform.world.lock().faults.clone()
    }

    /// Replaces all faults; `Faults::default()` ends them.
    pub fn set_faults(&self, faults: Faults) {
        self.platform.world.lock().set_faults(faults);
    }

    /// What the invocations so far would have cost.
    pub fn ledger(&self) -> Ledger {
        self.platform
            .world
            .lock()
            .books
            .ledger(&self.platform.settings.prices)
    }
}
