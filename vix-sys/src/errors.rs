//! The error codes of the API: name, number and meaning (VIX API Reference, "Error codes", and the
//! header).

use crate::VixError;

/// One error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorInfo {
    /// The number, as in the low 16 bits of a [`VixError`].
    pub code: VixError,
    /// The name in the header.
    pub name: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// Success.
pub const VIX_OK: VixError = 0;

/// The code in a result: its low 16 bits. 0 for success, and 1 (unspecified failure) for the odd
/// failure whose low bits are 0.
pub const fn code(error: VixError) -> VixError {
    match error & 0xFFFF {
        0 if error != VIX_OK => VIX_E_FAIL,
        code => code,
    }
}

/// What is known about the code in a result; none for success and for codes nobody documented.
pub fn describe(error: VixError) -> Option<&'static ErrorInfo> {
    let code = code(error);
    let index = ERRORS.binary_search_by_key(&code, |info| info.code).ok()?;
    ERRORS.get(index)
}

macro_rules! error_codes {
    ($($name:ident = $code:literal, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $name: VixError = $code;)*

        /// All codes, in the order of their numbers.
        pub const ERRORS: &[ErrorInfo] = &[
            $(ErrorInfo { code: $code, name: stringify!($name), meaning: $meaning },)*
        ];
    };
}

error_codes! {
    VIX_E_FAIL = 1, "Unspecified failure";
    VIX_E_OUT_OF_MEMORY = 2, "Allocation failed";
    VIX_E_INVALID_ARG = 3, "A parameter is wrong";
    VIX_E_FILE_NOT_FOUND = 4, "File missing";
    VIX_E_OBJECT_IS_BUSY = 5, "Handle already runs another operation";
    VIX_E_NOT_SUPPORTED = 6, "Operation not available here (also returned by the wrapper for symbols the provider lacks)";
    VIX_E_FILE_ERROR = 7, "I/O error on a host or guest file";
    VIX_E_DISK_FULL = 8, "No space left while writing";
    VIX_E_INCORRECT_FILE_TYPE = 9, "File is of another type than expected";
    VIX_E_CANCELLED = 10, "Operation was cancelled";
    VIX_E_FILE_READ_ONLY = 11, "File is write-protected";
    VIX_E_FILE_ALREADY_EXISTS = 12, "Target file is already there";
    VIX_E_FILE_ACCESS_ERROR = 13, "No access rights to the file";
    VIX_E_REQUIRES_LARGE_FILES = 14, "File system lacks large-file support";
    VIX_E_FILE_ALREADY_LOCKED = 15, "File is in use (locked)";
    VIX_E_VMDB = 16, "Internal channel to the VM process failed";
    VIX_E_NOT_SUPPORTED_ON_REMOTE_OBJECT = 20, "Not possible on a remote object";
    VIX_E_FILE_TOO_BIG = 21, "File exceeds the file system limit";
    VIX_E_FILE_NAME_INVALID = 22, "Bad file name";
    VIX_E_ALREADY_EXISTS = 23, "Object exists already";
    VIX_E_BUFFER_TOOSMALL = 24, "Buffer too small";
    VIX_E_OBJECT_NOT_FOUND = 25, "Referenced object does not exist";
    VIX_E_HOST_NOT_CONNECTED = 26, "Host is not connected";
    VIX_E_INVALID_UTF8_STRING = 27, "String argument is not valid UTF-8 (HTML reference misprints the value as 8)";
    VIX_E_UNFINISHED_JOB = 29, "Job has not completed yet";
    VIX_E_NEED_KEY = 30, "Decryption key needed";
    VIX_E_OPERATION_ALREADY_IN_PROGRESS = 31, "Same operation is already running";
    VIX_E_LICENSE = 32, "License does not cover the operation";
    VIX_E_VM_HOST_DISCONNECTED = 34, "Host of the VM is disconnected";
    VIX_E_AUTHENTICATION_FAIL = 35, "Authentication for an encrypted VM failed";
    VIX_E_HOST_CONNECTION_LOST = 36, "Connection to the host dropped";
    VIX_E_DUPLICATE_NAME = 41, "Name is taken by another object";
    VIX_E_ARGUMENT_TOO_BIG = 44, "An argument is too large (only in the HTML reference)";
    VIX_E_INVALID_HANDLE = 1000, "Not a live VIX handle";
    VIX_E_NOT_SUPPORTED_ON_HANDLE_TYPE = 1001, "Wrong kind of handle for this call";
    VIX_E_TOO_MANY_HANDLES = 1002, "Handle table is full";
    VIX_E_NOT_FOUND = 2000, "Required part or item missing (also: registering a VM that does not exist)";
    VIX_E_TYPE_MISMATCH = 2001, "Object of wrong type in file";
    VIX_E_INVALID_XML = 2002, "File contents corrupt";
    VIX_E_TIMEOUT_WAITING_FOR_TOOLS = 3000, "VMware Tools did not start in time";
    VIX_E_UNRECOGNIZED_COMMAND = 3001, "VM process does not know the command";
    VIX_E_OP_NOT_SUPPORTED_ON_GUEST = 3003, "Guest OS cannot do this";
    VIX_E_PROGRAM_NOT_STARTED = 3004, "Guest program could not be started";
    VIX_E_CANNOT_START_READ_ONLY_VM = 3005, "VM is read-only; cannot power on";
    VIX_E_VM_NOT_RUNNING = 3006, "VM must be powered on";
    VIX_E_VM_IS_RUNNING = 3007, "VM must not be running (also: linked clone of suspended VM)";
    VIX_E_CANNOT_CONNECT_TO_VM = 3008, "No connection to the VM process";
    VIX_E_POWEROP_SCRIPTS_NOT_AVAILABLE = 3009, "Tools power scripts not ready (soft power operation too early)";
    VIX_E_NO_GUEST_OS_INSTALLED = 3010, "No OS in the VM";
    VIX_E_VM_INSUFFICIENT_HOST_MEMORY = 3011, "Host lacks memory for the VM";
    VIX_E_SUSPEND_ERROR = 3012, "Suspending failed";
    VIX_E_VM_NOT_ENOUGH_CPUS = 3013, "Host has fewer CPUs than configured";
    VIX_E_HOST_USER_PERMISSIONS = 3014, "Not allowed by host OS permissions";
    VIX_E_GUEST_USER_PERMISSIONS = 3015, "Guest login failed or lacks rights";
    VIX_E_TOOLS_NOT_RUNNING = 3016, "VMware Tools not running in the guest";
    VIX_E_GUEST_OPERATIONS_PROHIBITED = 3017, "Guest operations disabled for this VM";
    VIX_E_ANON_GUEST_OPERATIONS_PROHIBITED = 3018, "Guest login required first";
    VIX_E_ROOT_GUEST_OPERATIONS_PROHIBITED = 3019, "Administrative guest user not permitted";
    VIX_E_MISSING_ANON_GUEST_ACCOUNT = 3023, "No account configured for anonymous guest operations";
    VIX_E_CANNOT_AUTHENTICATE_WITH_GUEST = 3024, "Guest authentication impossible";
    VIX_E_UNRECOGNIZED_COMMAND_IN_GUEST = 3025, "Tools do not know the command";
    VIX_E_CONSOLE_GUEST_OPERATIONS_PROHIBITED = 3026, "Console-user guest operations not permitted";
    VIX_E_MUST_BE_CONSOLE_USER = 3027, "Only the console user may do this";
    VIX_E_VMX_MSG_DIALOG_AND_NO_UI = 3028, "VM is blocked by a question nobody can answer (no UI)";
    VIX_E_NOT_ALLOWED_DURING_VM_RECORDING = 3029, "VM is recording (removed in API 1.11)";
    VIX_E_NOT_ALLOWED_DURING_VM_REPLAY = 3030, "VM is replaying (removed in API 1.11)";
    VIX_E_OPERATION_NOT_ALLOWED_FOR_LOGIN_TYPE = 3031, "Login type forbids the command";
    VIX_E_LOGIN_TYPE_NOT_SUPPORTED = 3032, "Login type unsupported";
    VIX_E_EMPTY_PASSWORD_NOT_ALLOWED_IN_GUEST = 3033, "Guest refuses empty passwords";
    VIX_E_INTERACTIVE_SESSION_NOT_PRESENT = 3034, "No interactive session of that guest user";
    VIX_E_INTERACTIVE_SESSION_USER_MISMATCH = 3035, "Another user owns the interactive session";
    VIX_E_UNABLE_TO_REPLAY_VM = 3039, "Replay impossible (removed in API 1.11)";
    VIX_E_CANNOT_POWER_ON_VM = 3041, "Power-on failed";
    VIX_E_NO_DISPLAY_SERVER = 3043, "UI launch impossible: no display server";
    VIX_E_VM_NOT_RECORDING = 3044, "VM is not recording (removed in API 1.11)";
    VIX_E_VM_NOT_REPLAYING = 3045, "VM is not replaying (removed in API 1.11)";
    VIX_E_TOO_MANY_LOGONS = 3046, "Too many guest sessions";
    VIX_E_INVALID_AUTHENTICATION_SESSION = 3047, "Unknown guest session";
    VIX_E_VM_NOT_FOUND = 4000, "VM not found";
    VIX_E_NOT_SUPPORTED_FOR_VM_VERSION = 4001, "Virtual hardware version does not support it";
    VIX_E_CANNOT_READ_VM_CONFIG = 4002, ".vmx cannot be read";
    VIX_E_TEMPLATE_VM = 4003, "VM is a template";
    VIX_E_VM_ALREADY_LOADED = 4004, "VM is already loaded";
    VIX_E_VM_ALREADY_UP_TO_DATE = 4006, "Nothing to upgrade";
    VIX_E_VM_UNSUPPORTED_GUEST = 4011, "Target host does not support this guest OS";
    VIX_E_UNRECOGNIZED_PROPERTY = 6000, "Property id unknown for this handle";
    VIX_E_INVALID_PROPERTY_VALUE = 6001, "Property value invalid";
    VIX_E_READ_ONLY_PROPERTY = 6002, "Property cannot be written";
    VIX_E_MISSING_REQUIRED_PROPERTY = 6003, "Required property absent";
    VIX_E_INVALID_SERIALIZED_DATA = 6004, "Serialized object is broken";
    VIX_E_PROPERTY_TYPE_MISMATCH = 6005, "Value type differs from the property type";
    VIX_E_BAD_VM_INDEX = 8000, "Index outside the result set";
    VIX_E_INVALID_MESSAGE_HEADER = 10000, "Protocol header corrupt or of wrong version";
    VIX_E_INVALID_MESSAGE_BODY = 10001, "Protocol body corrupt or absent";
    VIX_E_SNAPSHOT_INVAL = 13000, "General snapshot failure";
    VIX_E_SNAPSHOT_DUMPER = 13001, "Snapshot state file cannot be opened";
    VIX_E_SNAPSHOT_DISKLIB = 13002, "Disk layer error during a snapshot operation";
    VIX_E_SNAPSHOT_NOTFOUND = 13003, "No such snapshot";
    VIX_E_SNAPSHOT_EXISTS = 13004, "Snapshot already exists";
    VIX_E_SNAPSHOT_VERSION = 13005, "Snapshots not allowed for this VM";
    VIX_E_SNAPSHOT_NOPERM = 13006, "Missing permission";
    VIX_E_SNAPSHOT_CONFIG = 13007, "Configuration file error";
    VIX_E_SNAPSHOT_NOCHANGE = 13008, "Nothing changed since the last snapshot operation";
    VIX_E_SNAPSHOT_CHECKPOINT = 13009, "State file could not be saved";
    VIX_E_SNAPSHOT_LOCKED = 13010, "Another snapshot operation is running";
    VIX_E_SNAPSHOT_INCONSISTENT = 13011, "Snapshot files disagree";
    VIX_E_SNAPSHOT_NAMETOOLONG = 13012, "Resulting file name too long";
    VIX_E_SNAPSHOT_VIXFILE = 13013, "Not all metadata files can be included";
    VIX_E_SNAPSHOT_DISKLOCKED = 13014, "Disk(s) busy";
    VIX_E_SNAPSHOT_DUPLICATEDDISK = 13015, "Same disk attached more than once";
    VIX_E_SNAPSHOT_INDEPENDENTDISK = 13016, "Running VM has independent disks";
    VIX_E_SNAPSHOT_NONUNIQUE_NAME = 13017, "Several snapshots match the name";
    VIX_E_SNAPSHOT_MEMORY_ON_INDEPENDENT_DISK = 13018, "Memory snapshot impossible with independent disks";
    VIX_E_SNAPSHOT_MAXSNAPSHOTS = 13019, "Maximum number of snapshots reached";
    VIX_E_SNAPSHOT_MIN_FREE_SPACE = 13020, "Free space below the configured minimum";
    VIX_E_SNAPSHOT_HIERARCHY_TOODEEP = 13021, "Snapshot tree too deep";
    VIX_E_SNAPSHOT_RRSUSPEND = 13022, "Snapshot not possible in this (record/replay or suspend) state";
    VIX_E_SNAPSHOT_NOT_REVERTABLE = 13024, "Snapshot cannot be reverted to";
    VIX_E_HOST_DISK_INVALID_VALUE = 14003, "Not a valid physical disk device";
    VIX_E_HOST_DISK_SECTORSIZE = 14004, "Unsuitable sector size";
    VIX_E_HOST_FILE_ERROR_EOF = 14005, "Read past end of file";
    VIX_E_HOST_NETBLKDEV_HANDSHAKE = 14006, "Network block device handshake failed";
    VIX_E_HOST_SOCKET_CREATION_ERROR = 14007, "Socket could not be created";
    VIX_E_HOST_SERVER_NOT_FOUND = 14008, "Server unreachable";
    VIX_E_HOST_NETWORK_CONN_REFUSED = 14009, "Connection refused";
    VIX_E_HOST_TCP_SOCKET_ERROR = 14010, "TCP communication error";
    VIX_E_HOST_TCP_CONN_LOST = 14011, "TCP connection lost";
    VIX_E_HOST_NBD_HASHFILE_VOLUME = 14012, "NBD hash file: volume error";
    VIX_E_HOST_NBD_HASHFILE_INIT = 14013, "NBD hash file: initialisation error";
    VIX_E_DISK_INVAL = 16000, "Bad parameter to the disk layer";
    VIX_E_DISK_NOINIT = 16001, "Disk layer not initialised";
    VIX_E_DISK_NOIO = 16002, "Disk must be opened for I/O";
    VIX_E_DISK_PARTIALCHAIN = 16003, "Only part of the chain is open; parent required";
    VIX_E_DISK_NEEDSREPAIR = 16006, "Disk needs repair";
    VIX_E_DISK_OUTOFRANGE = 16007, "Access beyond the disk";
    VIX_E_DISK_CID_MISMATCH = 16008, "Parent changed: parentCID does not equal the parent's CID";
    VIX_E_DISK_CANTSHRINK = 16009, "Not shrinkable (not the parent disk)";
    VIX_E_DISK_PARTMISMATCH = 16010, "Partition table of the raw disk changed";
    VIX_E_DISK_UNSUPPORTEDDISKVERSION = 16011, "Disk format newer than supported";
    VIX_E_DISK_OPENPARENT = 16012, "Parent disk cannot be opened";
    VIX_E_DISK_NOTSUPPORTED = 16013, "Feature unsupported in this version";
    VIX_E_DISK_NEEDKEY = 16014, "Key(s) missing";
    VIX_E_DISK_NOKEYOVERRIDE = 16015, "Refuses an unencrypted child of an encrypted disk";
    VIX_E_DISK_NOTENCRYPTED = 16016, "Disk is not encrypted";
    VIX_E_DISK_NOKEY = 16017, "No key given for encryption";
    VIX_E_DISK_INVALIDPARTITIONTABLE = 16018, "Partition table invalid";
    VIX_E_DISK_NOTNORMAL = 16019, "Encryption needs sparse extents with embedded descriptor";
    VIX_E_DISK_NOTENCDESC = 16020, "Descriptor is not encrypted";
    VIX_E_DISK_NEEDVMFS = 16022, "File system is not VMFS";
    VIX_E_DISK_RAWTOOBIG = 16024, "Physical disk too large";
    VIX_E_DISK_TOOMANYOPENFILES = 16027, "Open-file limit reached";
    VIX_E_DISK_TOOMANYREDO = 16028, "Chain has too many levels";
    VIX_E_DISK_RAWTOOSMALL = 16029, "Physical disk too small";
    VIX_E_DISK_INVALIDCHAIN = 16030, "Chain mixes hosted and managed (ESX) disk types";
    VIX_E_DISK_KEY_NOTFOUND = 16052, "Key absent from the disk database (ddb)";
    VIX_E_DISK_SUBSYSTEM_INIT_FAIL = 16053, "A subsystem failed to start";
    VIX_E_DISK_INVALID_CONNECTION = 16054, "Connection handle invalid";
    VIX_E_DISK_ENCODING = 16061, "Character encoding problem in the descriptor";
    VIX_E_DISK_CANTREPAIR = 16062, "Corrupt beyond repair";
    VIX_E_DISK_INVALIDDISK = 16063, "Not a virtual disk file";
    VIX_E_DISK_NOLICENSE = 16064, "Host license lacks the feature";
    VIX_E_DISK_NODEVICE = 16065, "Device missing";
    VIX_E_DISK_UNSUPPORTEDDEVICE = 16066, "Device type unsupported";
    VIX_E_DISK_CAPACITY_MISMATCH = 16067, "Parent and child differ in capacity";
    VIX_E_DISK_PARENT_NOTALLOWED = 16068, "This disk type may not be a parent";
    VIX_E_DISK_ATTACH_ROOTLINK = 16069, "Both disks are root links";
    VIX_E_CRYPTO_UNKNOWN_ALGORITHM = 17000, "Crypto: unknown algorithm";
    VIX_E_CRYPTO_BAD_BUFFER_SIZE = 17001, "Crypto: bad buffer size";
    VIX_E_CRYPTO_INVALID_OPERATION = 17002, "Crypto: invalid operation";
    VIX_E_CRYPTO_RANDOM_DEVICE = 17003, "Crypto: random source failed";
    VIX_E_CRYPTO_NEED_PASSWORD = 17004, "Password required";
    VIX_E_CRYPTO_BAD_PASSWORD = 17005, "Wrong password";
    VIX_E_CRYPTO_NOT_IN_DICTIONARY = 17006, "Crypto: entry missing in dictionary";
    VIX_E_CRYPTO_NO_CRYPTO = 17007, "Crypto not available";
    VIX_E_CRYPTO_ERROR = 17008, "Crypto: general error";
    VIX_E_CRYPTO_BAD_FORMAT = 17009, "Crypto: bad data format";
    VIX_E_CRYPTO_LOCKED = 17010, "Crypto: key safe locked";
    VIX_E_CRYPTO_EMPTY = 17011, "Crypto: key safe empty";
    VIX_E_CRYPTO_KEYSAFE_LOCATOR = 17012, "Crypto: bad key locator";
    VIX_E_CANNOT_CONNECT_TO_HOST = 18000, "Host connection failed";
    VIX_E_NOT_FOR_REMOTE_HOST = 18001, "Feature only on the local host";
    VIX_E_INVALID_HOSTNAME_SPECIFICATION = 18002, "Host name malformed (URL https://host:port/sdk expected)";
    VIX_E_SCREEN_CAPTURE_ERROR = 19000, "Screen capture failed";
    VIX_E_SCREEN_CAPTURE_BAD_FORMAT = 19001, "Capture format unsupported";
    VIX_E_SCREEN_CAPTURE_COMPRESSION_FAIL = 19002, "Capture could not be compressed";
    VIX_E_SCREEN_CAPTURE_LARGE_DATA = 19003, "Capture exceeds the size limit";
    VIX_E_GUEST_VOLUMES_NOT_FROZEN = 20000, "Guest volumes are not frozen (quiesced)";
    VIX_E_NOT_A_FILE = 20001, "Guest object is not a file";
    VIX_E_NOT_A_DIRECTORY = 20002, "Guest object is not a directory";
    VIX_E_NO_SUCH_PROCESS = 20003, "Guest process missing";
    VIX_E_FILE_NAME_TOO_LONG = 20004, "Guest file name too long";
    VIX_E_OPERATION_DISABLED = 20005, "Guest disabled the operation";
    VIX_E_TOOLS_INSTALL_NO_IMAGE = 21000, "No Tools image for this guest";
    VIX_E_TOOLS_INSTALL_IMAGE_INACCESIBLE = 21001, "Tools image not accessible";
    VIX_E_TOOLS_INSTALL_NO_DEVICE = 21002, "No CD device for the Tools image";
    VIX_E_TOOLS_INSTALL_DEVICE_NOT_CONNECTED = 21003, "CD device not connected";
    VIX_E_TOOLS_INSTALL_CANCELLED = 21004, "Tools installation cancelled";
    VIX_E_TOOLS_INSTALL_INIT_FAILED = 21005, "Tools installation could not begin";
    VIX_E_TOOLS_INSTALL_AUTO_NOT_SUPPORTED = 21006, "Unattended Tools installation unsupported";
    VIX_E_TOOLS_INSTALL_GUEST_NOT_READY = 21007, "Tools not running so automatic upgrade impossible";
    VIX_E_TOOLS_INSTALL_SIG_CHECK_FAILED = 21008, "Tools image signature check failed";
    VIX_E_TOOLS_INSTALL_ERROR = 21009, "Tools installation failed";
    VIX_E_TOOLS_INSTALL_ALREADY_UP_TO_DATE = 21010, "Tools are current";
    VIX_E_TOOLS_INSTALL_IN_PROGRESS = 21011, "Tools installation already running";
    VIX_E_TOOLS_INSTALL_IMAGE_COPY_FAILED = 21012, "Tools image could not be copied";
    VIX_E_WRAPPER_WORKSTATION_NOT_INSTALLED = 22001, "Wrapper: Workstation requested but no product version is configured";
    VIX_E_WRAPPER_VERSION_NOT_FOUND = 22002, "Wrapper: provider type known but no line matches the version";
    VIX_E_WRAPPER_SERVICEPROVIDER_NOT_FOUND = 22003, "Wrapper: no line for this provider type";
    VIX_E_WRAPPER_PLAYER_NOT_INSTALLED = 22004, "Wrapper: Player requested but no product version is configured";
    VIX_E_WRAPPER_RUNTIME_NOT_INSTALLED = 22005, "Wrapper: VIX installation directory unknown (no vix.libdir)";
    VIX_E_WRAPPER_MULTIPLE_SERVICEPROVIDERS = 22006, "Wrapper (Windows): second provider type in one process";
    VIX_E_MNTAPI_MOUNTPT_NOT_FOUND = 24000, "Mount point missing";
    VIX_E_MNTAPI_MOUNTPT_IN_USE = 24001, "Mount point in use";
    VIX_E_MNTAPI_DISK_NOT_FOUND = 24002, "Disk to mount missing";
    VIX_E_MNTAPI_DISK_NOT_MOUNTED = 24003, "Disk is not mounted";
    VIX_E_MNTAPI_DISK_IS_MOUNTED = 24004, "Disk is mounted already";
    VIX_E_MNTAPI_DISK_NOT_SAFE = 24005, "Mounting unsafe (running or suspended VM or inside a snapshot chain)";
    VIX_E_MNTAPI_DISK_CANT_OPEN = 24006, "Disk to mount cannot be opened";
    VIX_E_MNTAPI_CANT_READ_PARTS = 24007, "Partition table unreadable";
    VIX_E_MNTAPI_UMOUNT_APP_NOT_FOUND = 24008, "umount program not found";
    VIX_E_MNTAPI_UMOUNT = 24009, "umount failed";
    VIX_E_MNTAPI_NO_MOUNTABLE_PARTITONS = 24010, "No partition the host can mount";
    VIX_E_MNTAPI_PARTITION_RANGE = 24011, "Partition number out of range";
    VIX_E_MNTAPI_PERM = 24012, "Missing permission";
    VIX_E_MNTAPI_DICT = 24013, "Mount metadata error";
    VIX_E_MNTAPI_DICT_LOCKED = 24014, "Mount metadata locked";
    VIX_E_MNTAPI_OPEN_HANDLES = 24015, "Mounted disk is in use by another process";
    VIX_E_MNTAPI_CANT_MAKE_VAR_DIR = 24016, "Runtime directory for fuse cannot be created";
    VIX_E_MNTAPI_NO_ROOT = 24017, "Needs setuid root";
    VIX_E_MNTAPI_LOOP_FAILED = 24018, "Loop device failure";
    VIX_E_MNTAPI_DAEMON = 24019, "Fuse daemon did not start";
    VIX_E_MNTAPI_INTERNAL = 24020, "Internal mount error";
    VIX_E_MNTAPI_SYSTEM = 24021, "System call failed";
    VIX_E_MNTAPI_NO_CONNECTION_DETAILS = 24022, "Disk library connection details unavailable";
    VIX_E_MNTAPI_INCOMPATIBLE_VERSION = 24300, "Product older than expected";
    VIX_E_MNTAPI_OS_ERROR = 24301, "Operating system error";
    VIX_E_MNTAPI_DRIVE_LETTER_IN_USE = 24302, "Drive letter taken";
    VIX_E_MNTAPI_DRIVE_LETTER_ALREADY_ASSIGNED = 24303, "Drive letter already assigned";
    VIX_E_MNTAPI_VOLUME_NOT_MOUNTED = 24304, "Volume not mounted";
    VIX_E_MNTAPI_VOLUME_ALREADY_MOUNTED = 24305, "Volume mounted already";
    VIX_E_MNTAPI_FORMAT_FAILURE = 24306, "Formatting failed";
    VIX_E_MNTAPI_NO_DRIVER = 24307, "Driver missing";
    VIX_E_MNTAPI_ALREADY_OPENED = 24308, "Volume or disk set already open";
    VIX_E_MNTAPI_ITEM_NOT_FOUND = 24309, "Required item missing in file";
    VIX_E_MNTAPI_UNSUPPROTED_BOOT_LOADER = 24310, "Boot loader unsupported (identifier is misspelled like this)";
    VIX_E_MNTAPI_UNSUPPROTED_OS = 24311, "OS unsupported (identifier is misspelled like this)";
    VIX_E_MNTAPI_CODECONVERSION = 24312, "String conversion failed";
    VIX_E_MNTAPI_REGWRITE_ERROR = 24313, "Registry write failed";
    VIX_E_MNTAPI_UNSUPPORTED_FT_VOLUME = 24314, "NT4 fault-tolerant volume unsupported";
    VIX_E_MNTAPI_PARTITION_NOT_FOUND = 24315, "Partition missing";
    VIX_E_MNTAPI_PUTFILE_ERROR = 24316, "Put-file failed";
    VIX_E_MNTAPI_GETFILE_ERROR = 24317, "Get-file failed";
    VIX_E_MNTAPI_REG_NOT_OPENED = 24318, "Registry key cannot be opened";
    VIX_E_MNTAPI_REGDELKEY_ERROR = 24319, "Registry key cannot be deleted";
    VIX_E_MNTAPI_CREATE_PARTITIONTABLE_ERROR = 24320, "Partition table cannot be created";
    VIX_E_MNTAPI_OPEN_FAILURE = 24321, "Disk set cannot be opened";
    VIX_E_MNTAPI_VOLUME_NOT_WRITABLE = 24322, "Volume is write-protected";
    VIX_E_ASYNC_MIXEDMODE_UNSUPPORTED = 26000, "Sync and async I/O mixed on one disk handle (only in the HTML reference)";
    VIX_E_NET_HTTP_UNSUPPORTED_PROTOCOL = 30001, "URL scheme unsupported";
    VIX_E_NET_HTTP_URL_MALFORMAT = 30003, "URL malformed";
    VIX_E_NET_HTTP_COULDNT_RESOLVE_PROXY = 30005, "Proxy name not resolved";
    VIX_E_NET_HTTP_COULDNT_RESOLVE_HOST = 30006, "Host name not resolved";
    VIX_E_NET_HTTP_COULDNT_CONNECT = 30007, "TCP connection to host or proxy failed";
    VIX_E_NET_HTTP_HTTP_RETURNED_ERROR = 30022, "HTTP status 400 or higher";
    VIX_E_NET_HTTP_OPERATION_TIMEDOUT = 30028, "Network timeout";
    VIX_E_NET_HTTP_SSL_CONNECT_ERROR = 30035, "TLS handshake failed";
    VIX_E_NET_HTTP_TOO_MANY_REDIRECTS = 30047, "Too many redirects";
    VIX_E_NET_HTTP_TRANSFER = 30200, "Data transfer failed";
    VIX_E_NET_HTTP_SSL_SECURITY = 30201, "TLS security failure (certificate not trusted)";
    VIX_E_NET_HTTP_GENERIC = 30202, "Other HTTP error";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_unique_so_that_the_search_finds_each() {
        assert!(ERRORS.is_sorted_by(|a, b| a.code < b.code));
        for info in ERRORS {
            assert_eq!(describe(info.code), Some(info));
        }
    }

    #[test]
    fn only_the_low_bits_of_a_result_name_the_error() {
        let info = describe(0x5_0000_0000 | VIX_E_SNAPSHOT_NOTFOUND).expect("a known code");
        assert_eq!(info.name, "VIX_E_SNAPSHOT_NOTFOUND");
        assert_eq!(describe(VIX_OK), None);
        assert_eq!(code(0x1_0000), VIX_E_FAIL);
    }
}
