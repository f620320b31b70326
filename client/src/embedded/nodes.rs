//! Where the nodes are.

use std::{env, io, path::PathBuf, process};

use scatterhoard_proxy::local_pool::Program;

/// Set in processes that are to be nodes.
const IS_NODE: &str = "SCATTERHOARD_IS_NODE";

/// Where the nodes are, which keep the values.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Nodes {
    /// Processes on this machine, started and ended with the proxy. Values outlive a
    /// single process, but not the proxy.
    Processes(NodeProgram),
    /// Functions behind this endpoint, which speaks Lambda's Invoke API: `http://...`
    Endpoint(String),
    /// Functions on AWS Lambda, with the usual credential chain.
    Aws,
}

/// What a node's process runs.
#[derive(Clone, Debug)]
pub struct NodeProgram(pub(super) Program);

impl NodeProgram {
    /// The program `scatterhoard` or `scatterhoard-node`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(Program::at(path.into()))
    }
}

/// This program as the nodes' own: to be called at the beginning of `main`, outside
/// any runtime and before anything is bound or started. **In a process that was
/// started as a node it serves as one, and never returns.**
///
/// Nodes are then as large as this program; [`NodeProgram::at`] with
/// `scatterhoard-node` takes less memory.
///
/// # Errors
/// When the system does not know where this program is.
pub fn this_program() -> io::Result<NodeProgram> {
    if env::var_os(IS_NODE).is_some() {
        process::exit(node());
    }
    let mut program = Program::this()?;
    program.args.clear();
    program.env.insert(IS_NODE.into(), "1".into());
    Ok(NodeProgram(program))
}

#[allow(clippy::print_stderr, reason = "where a node's complaints go")]
fn node() -> i32 {
    match scatterhoard_node::run() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("node: {error}");
            1
        }
    }
}
