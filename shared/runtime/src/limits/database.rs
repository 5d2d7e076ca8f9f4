//! Limits of the database: connections, statements, outages, the private server.

use super::{millis, secs};

limits! {
    /// Limits of connections, statements and outages of the database.
    DatabaseLimits {
        /// How long an operation waits for a connection before it counts the database as away.
        connection = secs(5);
        /// The pause between two attempts to reach a database that is away.
        retry_pause = millis(500);
        /// An attempt to connect and the pause after it are over by then, or nobody attempts any more.
        attempts_standstill = secs(30);
        /// How long the answer to nothing but "are you there?" may take.
        ping = secs(3);
        /// A connection whose answer nobody waited for any more is suspect if it had not come after this time.
        suspect_after = millis(300);
        /// A connection that was in use so short a time ago need not be asked whether it is there.
        fresh = secs(1);
        /// A connection goes when it is so old: what the server keeps for it grows.
        oldest_connection = secs(1800);
        /// Connections that nobody has needed for so long go.
        idle_connection = secs(600);
        /// A statement that takes longer waits on a dead connection.
        statement = secs(20);
        /// A database that takes longer for the answer to a simple question was away.
        prompt_answer = secs(1);
        /// An outage that begins so soon after the last one counts as its continuation and is not logged at once: a link
        /// that comes and goes is logged once. One that goes on is logged when this time is over.
        same_outage = secs(10);
        /// The pause between two attempts to migrate while other transactions use the tables, so that those who had to wait
        /// for them get through.
        migration_pause = secs(1);
    }
}

limits! {
    /// Limits of the private Postgres.
    PrivateServerLimits {
        /// How long a start may take: recovery after a crash of the machine takes a while.
        start = secs(300);
        /// How long the processes of a server may take to end after it has stopped.
        gone = secs(10);
        /// How often it is looked whether they have.
        gone_look_every = millis(1);
        /// How long another process may take to start or stop the cluster.
        lock = secs(90);
        /// How often it is looked whether a lock is free or a server is up.
        look_every = millis(20);
    }
}
