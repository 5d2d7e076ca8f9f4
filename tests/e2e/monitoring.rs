//! The figures are true, documented, and what dashboards and alerts ask for.

mod catalogue;
mod figures;
mod otlp;
mod rules;
