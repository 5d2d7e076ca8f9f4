//! Notices in the database: who takes them, what is told together, what waits.
