//! The metrics are true, documented, and what dashboards and alerts ask for.

mod catalogue;
mod metrics;
mod otlp;
mod rules;
