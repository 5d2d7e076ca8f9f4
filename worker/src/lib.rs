//! How: claims jobs, holds leases, runs steps.
