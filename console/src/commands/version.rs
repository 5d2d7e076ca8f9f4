//! `virtuozo version`.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::context::Context;

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  virtuozo version --json")]
pub(crate) struct VersionArgs {}

pub(crate) fn run(context: &Context, _args: VersionArgs) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    if context.out.is_json() {
        return context.out.json(&json!({ "version": version }));
    }
    context.out.line(&format!("virtuozo {version}"))
}
