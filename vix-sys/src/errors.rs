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
    /// What it means: a sentence for people, without its full stop.
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
    VIX_E_FAIL = 1, "The operation failed for a reason that was not told";
    VIX_E_OUT_OF_MEMORY = 2, "There is not enough memory";
    VIX_E_INVALID_ARG = 3, "An argument of the call is not valid";
    VIX_E_FILE_NOT_FOUND = 4, "A file was not found";
    VIX_E_OBJECT_IS_BUSY = 5, "The object is busy with another operation";
    VIX_E_NOT_SUPPORTED = 6, "The operation is not supported here";
    VIX_E_FILE_ERROR = 7, "A file could not be read or written";
    VIX_E_DISK_FULL = 8, "No space left while writing";
    VIX_E_INCORRECT_FILE_TYPE = 9, "The file is of another type than expected";
    VIX_E_CANCELLED = 10, "The operation was cancelled";
    VIX_E_FILE_READ_ONLY = 11, "The file is write-protected";
    VIX_E_FILE_ALREADY_EXISTS = 12, "The file exists already";
    VIX_E_FILE_ACCESS_ERROR = 13, "Access to the file is not allowed";
    VIX_E_REQUIRES_LARGE_FILES = 14, "The file system does not support large files";
    VIX_E_FILE_ALREADY_LOCKED = 15, "The file is locked by another program";
    VIX_E_VMDB = 16, "The connection to the process of the virtual machine failed";
    VIX_E_NOT_SUPPORTED_ON_REMOTE_OBJECT = 20, "The operation is not possible on a remote object";
    VIX_E_FILE_TOO_BIG = 21, "The file is too large for the file system";
    VIX_E_FILE_NAME_INVALID = 22, "The file name is not valid";
    VIX_E_ALREADY_EXISTS = 23, "The object exists already";
    VIX_E_BUFFER_TOOSMALL = 24, "The buffer is too small";
    VIX_E_OBJECT_NOT_FOUND = 25, "The object does not exist";
    VIX_E_HOST_NOT_CONNECTED = 26, "The host is not connected";
    VIX_E_INVALID_UTF8_STRING = 27, "A text is not valid UTF-8";
    VIX_E_UNFINISHED_JOB = 29, "The job has not ended yet";
    VIX_E_NEED_KEY = 30, "The virtual machine is encrypted and needs a key";
    VIX_E_OPERATION_ALREADY_IN_PROGRESS = 31, "The same operation is already running";
    VIX_E_LICENSE = 32, "The licence does not cover the operation";
    VIX_E_VM_HOST_DISCONNECTED = 34, "The host of the virtual machine is disconnected";
    VIX_E_AUTHENTICATION_FAIL = 35, "The password of the encrypted virtual machine is wrong";
    VIX_E_HOST_CONNECTION_LOST = 36, "The connection to the host was lost";
    VIX_E_DUPLICATE_NAME = 41, "The name is in use already";
    VIX_E_ARGUMENT_TOO_BIG = 44, "An argument of the call is too large";
    VIX_E_INVALID_HANDLE = 1000, "The handle is not valid";
    VIX_E_NOT_SUPPORTED_ON_HANDLE_TYPE = 1001, "The handle is of the wrong kind for this call";
    VIX_E_TOO_MANY_HANDLES = 1002, "Too many handles are open";
    VIX_E_NOT_FOUND = 2000, "A required object was not found";
    VIX_E_TYPE_MISMATCH = 2001, "An object in a file is of the wrong type";
    VIX_E_INVALID_XML = 2002, "The contents of a file are damaged";
    VIX_E_TIMEOUT_WAITING_FOR_TOOLS = 3000, "VMware Tools did not start in time";
    VIX_E_UNRECOGNIZED_COMMAND = 3001, "The virtual machine does not know the command";
    VIX_E_OP_NOT_SUPPORTED_ON_GUEST = 3003, "The guest operating system cannot do this";
    VIX_E_PROGRAM_NOT_STARTED = 3004, "The program in the guest could not be started";
    VIX_E_CANNOT_START_READ_ONLY_VM = 3005, "The virtual machine is write-protected and cannot be powered on";
    VIX_E_VM_NOT_RUNNING = 3006, "The virtual machine must be powered on";
    VIX_E_VM_IS_RUNNING = 3007, "The virtual machine must not be running";
    VIX_E_CANNOT_CONNECT_TO_VM = 3008, "The process of the virtual machine cannot be reached";
    VIX_E_POWEROP_SCRIPTS_NOT_AVAILABLE = 3009, "VMware Tools in the guest are not ready yet";
    VIX_E_NO_GUEST_OS_INSTALLED = 3010, "No operating system is installed in the virtual machine";
    VIX_E_VM_INSUFFICIENT_HOST_MEMORY = 3011, "The host has not enough memory for the virtual machine";
    VIX_E_SUSPEND_ERROR = 3012, "The virtual machine could not be suspended";
    VIX_E_VM_NOT_ENOUGH_CPUS = 3013, "The host has fewer processors than the virtual machine needs";
    VIX_E_HOST_USER_PERMISSIONS = 3014, "The user of the host is not allowed to do this";
    VIX_E_GUEST_USER_PERMISSIONS = 3015, "The user of the guest is not allowed to do this";
    VIX_E_TOOLS_NOT_RUNNING = 3016, "VMware Tools are not running in the guest";
    VIX_E_GUEST_OPERATIONS_PROHIBITED = 3017, "Operations in the guest are disabled for this virtual machine";
    VIX_E_ANON_GUEST_OPERATIONS_PROHIBITED = 3018, "The operation needs a login in the guest";
    VIX_E_ROOT_GUEST_OPERATIONS_PROHIBITED = 3019, "Administrators of the guest are not allowed to do this";
    VIX_E_MISSING_ANON_GUEST_ACCOUNT = 3023, "No account is set up for anonymous operations in the guest";
    VIX_E_CANNOT_AUTHENTICATE_WITH_GUEST = 3024, "The guest does not accept logins";
    VIX_E_UNRECOGNIZED_COMMAND_IN_GUEST = 3025, "VMware Tools in the guest do not know the command";
    VIX_E_CONSOLE_GUEST_OPERATIONS_PROHIBITED = 3026, "The console user of the guest is not allowed to do this";
    VIX_E_MUST_BE_CONSOLE_USER = 3027, "Only the console user of the guest may do this";
    VIX_E_VMX_MSG_DIALOG_AND_NO_UI = 3028, "The virtual machine waits for an answer to a question";
    VIX_E_NOT_ALLOWED_DURING_VM_RECORDING = 3029, "The operation is not possible while the virtual machine records";
    VIX_E_NOT_ALLOWED_DURING_VM_REPLAY = 3030, "The operation is not possible while the virtual machine replays";
    VIX_E_OPERATION_NOT_ALLOWED_FOR_LOGIN_TYPE = 3031, "The operation is not allowed for this kind of login";
    VIX_E_LOGIN_TYPE_NOT_SUPPORTED = 3032, "This kind of login is not supported";
    VIX_E_EMPTY_PASSWORD_NOT_ALLOWED_IN_GUEST = 3033, "The guest does not accept empty passwords";
    VIX_E_INTERACTIVE_SESSION_NOT_PRESENT = 3034, "The user of the guest is not logged in at its console";
    VIX_E_INTERACTIVE_SESSION_USER_MISMATCH = 3035, "Another user is logged in at the console of the guest";
    VIX_E_UNABLE_TO_REPLAY_VM = 3039, "The recording cannot be replayed";
    VIX_E_CANNOT_POWER_ON_VM = 3041, "The virtual machine could not be powered on";
    VIX_E_NO_DISPLAY_SERVER = 3043, "There is no display for the window";
    VIX_E_VM_NOT_RECORDING = 3044, "The virtual machine does not record";
    VIX_E_VM_NOT_REPLAYING = 3045, "The virtual machine does not replay";
    VIX_E_TOO_MANY_LOGONS = 3046, "Too many users are logged in to the guest";
    VIX_E_INVALID_AUTHENTICATION_SESSION = 3047, "The login in the guest is not valid any more";
    VIX_E_VM_NOT_FOUND = 4000, "The virtual machine was not found";
    VIX_E_NOT_SUPPORTED_FOR_VM_VERSION = 4001, "The version of the virtual hardware does not support the operation";
    VIX_E_CANNOT_READ_VM_CONFIG = 4002, "The configuration of the virtual machine cannot be read";
    VIX_E_TEMPLATE_VM = 4003, "The virtual machine is a template";
    VIX_E_VM_ALREADY_LOADED = 4004, "The virtual machine is loaded already";
    VIX_E_VM_ALREADY_UP_TO_DATE = 4006, "The virtual machine is up to date already";
    VIX_E_VM_UNSUPPORTED_GUEST = 4011, "The host does not support the operating system of the guest";
    VIX_E_UNRECOGNIZED_PROPERTY = 6000, "The object has no such property";
    VIX_E_INVALID_PROPERTY_VALUE = 6001, "The value of the property is not valid";
    VIX_E_READ_ONLY_PROPERTY = 6002, "The property cannot be changed";
    VIX_E_MISSING_REQUIRED_PROPERTY = 6003, "A required property is missing";
    VIX_E_INVALID_SERIALIZED_DATA = 6004, "The stored object is damaged";
    VIX_E_PROPERTY_TYPE_MISMATCH = 6005, "The property is of another type";
    VIX_E_BAD_VM_INDEX = 8000, "The index is outside the results";
    VIX_E_INVALID_MESSAGE_HEADER = 10000, "The header of a message is damaged or of another version";
    VIX_E_INVALID_MESSAGE_BODY = 10001, "The body of a message is damaged or missing";
    VIX_E_SNAPSHOT_INVAL = 13000, "The snapshot operation failed";
    VIX_E_SNAPSHOT_DUMPER = 13001, "The state file of the snapshot cannot be opened";
    VIX_E_SNAPSHOT_DISKLIB = 13002, "The disks failed during the snapshot operation";
    VIX_E_SNAPSHOT_NOTFOUND = 13003, "There is no such snapshot";
    VIX_E_SNAPSHOT_EXISTS = 13004, "The snapshot exists already";
    VIX_E_SNAPSHOT_VERSION = 13005, "The virtual machine does not allow snapshots";
    VIX_E_SNAPSHOT_NOPERM = 13006, "Snapshots of this virtual machine are not permitted";
    VIX_E_SNAPSHOT_CONFIG = 13007, "The configuration file of the snapshots is damaged";
    VIX_E_SNAPSHOT_NOCHANGE = 13008, "Nothing has changed since the last snapshot";
    VIX_E_SNAPSHOT_CHECKPOINT = 13009, "The state of the virtual machine could not be saved";
    VIX_E_SNAPSHOT_LOCKED = 13010, "Another snapshot operation is running";
    VIX_E_SNAPSHOT_INCONSISTENT = 13011, "The files of the snapshots do not fit each other";
    VIX_E_SNAPSHOT_NAMETOOLONG = 13012, "The file name of the snapshot would be too long";
    VIX_E_SNAPSHOT_VIXFILE = 13013, "Not all files of the virtual machine can be part of the snapshot";
    VIX_E_SNAPSHOT_DISKLOCKED = 13014, "A disk of the virtual machine is busy";
    VIX_E_SNAPSHOT_DUPLICATEDDISK = 13015, "The same disk is attached twice";
    VIX_E_SNAPSHOT_INDEPENDENTDISK = 13016, "A virtual machine with independent disks must be off for a snapshot";
    VIX_E_SNAPSHOT_NONUNIQUE_NAME = 13017, "Several snapshots have this name";
    VIX_E_SNAPSHOT_MEMORY_ON_INDEPENDENT_DISK = 13018, "A snapshot with memory is not possible with independent disks";
    VIX_E_SNAPSHOT_MAXSNAPSHOTS = 13019, "There are as many snapshots as are allowed";
    VIX_E_SNAPSHOT_MIN_FREE_SPACE = 13020, "There is less free space than the snapshot needs";
    VIX_E_SNAPSHOT_HIERARCHY_TOODEEP = 13021, "The tree of snapshots is too deep";
    VIX_E_SNAPSHOT_RRSUSPEND = 13022, "A snapshot is not possible in the present state of the virtual machine";
    VIX_E_SNAPSHOT_NOT_REVERTABLE = 13024, "The virtual machine cannot be reverted to the snapshot";
    VIX_E_HOST_DISK_INVALID_VALUE = 14003, "The device is not a physical disk";
    VIX_E_HOST_DISK_SECTORSIZE = 14004, "The sector size of the disk is not supported";
    VIX_E_HOST_FILE_ERROR_EOF = 14005, "The file ends before what was to be read";
    VIX_E_HOST_NETBLKDEV_HANDSHAKE = 14006, "The network disk did not accept the connection";
    VIX_E_HOST_SOCKET_CREATION_ERROR = 14007, "A network connection could not be prepared";
    VIX_E_HOST_SERVER_NOT_FOUND = 14008, "The server cannot be reached";
    VIX_E_HOST_NETWORK_CONN_REFUSED = 14009, "The server refused the connection";
    VIX_E_HOST_TCP_SOCKET_ERROR = 14010, "The network connection failed";
    VIX_E_HOST_TCP_CONN_LOST = 14011, "The network connection was lost";
    VIX_E_HOST_NBD_HASHFILE_VOLUME = 14012, "The volume with the hash file failed";
    VIX_E_HOST_NBD_HASHFILE_INIT = 14013, "The hash file could not be prepared";
    VIX_E_DISK_INVAL = 16000, "The disk library got an argument that is not valid";
    VIX_E_DISK_NOINIT = 16001, "The disk library was not started";
    VIX_E_DISK_NOIO = 16002, "The disk is not open for reading and writing";
    VIX_E_DISK_PARTIALCHAIN = 16003, "The parent of the disk is not open";
    VIX_E_DISK_NEEDSREPAIR = 16006, "The disk needs repair";
    VIX_E_DISK_OUTOFRANGE = 16007, "The access was beyond the end of the disk";
    VIX_E_DISK_CID_MISMATCH = 16008, "The parent of the disk has changed since the disk was made";
    VIX_E_DISK_CANTSHRINK = 16009, "The disk cannot be shrunk";
    VIX_E_DISK_PARTMISMATCH = 16010, "The partition table of the physical disk has changed";
    VIX_E_DISK_UNSUPPORTEDDISKVERSION = 16011, "The format of the disk is newer than the library";
    VIX_E_DISK_OPENPARENT = 16012, "The parent of the disk cannot be opened";
    VIX_E_DISK_NOTSUPPORTED = 16013, "The disk needs a feature that this version lacks";
    VIX_E_DISK_NEEDKEY = 16014, "The disk is encrypted and needs a key";
    VIX_E_DISK_NOKEYOVERRIDE = 16015, "A disk that is not encrypted cannot be on top of an encrypted one";
    VIX_E_DISK_NOTENCRYPTED = 16016, "The disk is not encrypted";
    VIX_E_DISK_NOKEY = 16017, "No key was given for the encryption";
    VIX_E_DISK_INVALIDPARTITIONTABLE = 16018, "The partition table is not valid";
    VIX_E_DISK_NOTNORMAL = 16019, "The kind of the disk does not allow encryption";
    VIX_E_DISK_NOTENCDESC = 16020, "The description of the disk is not encrypted";
    VIX_E_DISK_NEEDVMFS = 16022, "The disk must be on a VMFS file system";
    VIX_E_DISK_RAWTOOBIG = 16024, "The physical disk is too large";
    VIX_E_DISK_TOOMANYOPENFILES = 16027, "Too many files are open";
    VIX_E_DISK_TOOMANYREDO = 16028, "The chain of disks is too long";
    VIX_E_DISK_RAWTOOSMALL = 16029, "The physical disk is too small";
    VIX_E_DISK_INVALIDCHAIN = 16030, "The disks of the chain are of kinds that do not fit";
    VIX_E_DISK_KEY_NOTFOUND = 16052, "The entry is not in the description of the disk";
    VIX_E_DISK_SUBSYSTEM_INIT_FAIL = 16053, "A part of the disk library did not start";
    VIX_E_DISK_INVALID_CONNECTION = 16054, "The connection to the disk is not valid";
    VIX_E_DISK_ENCODING = 16061, "The description of the disk is in an encoding that cannot be read";
    VIX_E_DISK_CANTREPAIR = 16062, "The disk is damaged beyond repair";
    VIX_E_DISK_INVALIDDISK = 16063, "The file is not a virtual disk";
    VIX_E_DISK_NOLICENSE = 16064, "The licence of the host lacks the feature";
    VIX_E_DISK_NODEVICE = 16065, "The device does not exist";
    VIX_E_DISK_UNSUPPORTEDDEVICE = 16066, "The type of the device is not supported";
    VIX_E_DISK_CAPACITY_MISMATCH = 16067, "The disk and its parent differ in size";
    VIX_E_DISK_PARENT_NOTALLOWED = 16068, "A disk of this kind cannot be a parent";
    VIX_E_DISK_ATTACH_ROOTLINK = 16069, "Both disks are the first of a chain";
    VIX_E_CRYPTO_UNKNOWN_ALGORITHM = 17000, "The method of encryption is not known";
    VIX_E_CRYPTO_BAD_BUFFER_SIZE = 17001, "The buffer for the encryption has the wrong size";
    VIX_E_CRYPTO_INVALID_OPERATION = 17002, "The operation is not valid for the encryption";
    VIX_E_CRYPTO_RANDOM_DEVICE = 17003, "The source of random numbers failed";
    VIX_E_CRYPTO_NEED_PASSWORD = 17004, "A password is required";
    VIX_E_CRYPTO_BAD_PASSWORD = 17005, "The password is wrong";
    VIX_E_CRYPTO_NOT_IN_DICTIONARY = 17006, "The entry for the encryption is missing";
    VIX_E_CRYPTO_NO_CRYPTO = 17007, "Encryption is not available";
    VIX_E_CRYPTO_ERROR = 17008, "The encryption failed for a reason that was not told";
    VIX_E_CRYPTO_BAD_FORMAT = 17009, "The encrypted data has the wrong format";
    VIX_E_CRYPTO_LOCKED = 17010, "The keys of the encryption are locked";
    VIX_E_CRYPTO_EMPTY = 17011, "There are no keys for the encryption";
    VIX_E_CRYPTO_KEYSAFE_LOCATOR = 17012, "The place of the keys is not valid";
    VIX_E_CANNOT_CONNECT_TO_HOST = 18000, "The host cannot be reached";
    VIX_E_NOT_FOR_REMOTE_HOST = 18001, "The operation is possible on this machine only";
    VIX_E_INVALID_HOSTNAME_SPECIFICATION = 18002, "The name of the host is not valid";
    VIX_E_SCREEN_CAPTURE_ERROR = 19000, "The screen could not be captured";
    VIX_E_SCREEN_CAPTURE_BAD_FORMAT = 19001, "The format for the image of the screen is not supported";
    VIX_E_SCREEN_CAPTURE_COMPRESSION_FAIL = 19002, "The image of the screen could not be compressed";
    VIX_E_SCREEN_CAPTURE_LARGE_DATA = 19003, "The image of the screen is too large";
    VIX_E_GUEST_VOLUMES_NOT_FROZEN = 20000, "The volumes of the guest are not frozen";
    VIX_E_NOT_A_FILE = 20001, "The object in the guest is not a file";
    VIX_E_NOT_A_DIRECTORY = 20002, "The object in the guest is not a directory";
    VIX_E_NO_SUCH_PROCESS = 20003, "The process in the guest does not exist";
    VIX_E_FILE_NAME_TOO_LONG = 20004, "The file name in the guest is too long";
    VIX_E_OPERATION_DISABLED = 20005, "The operation is disabled in the guest";
    VIX_E_TOOLS_INSTALL_NO_IMAGE = 21000, "There is no image of VMware Tools for this guest";
    VIX_E_TOOLS_INSTALL_IMAGE_INACCESIBLE = 21001, "The image of VMware Tools cannot be read";
    VIX_E_TOOLS_INSTALL_NO_DEVICE = 21002, "The virtual machine has no CD drive for VMware Tools";
    VIX_E_TOOLS_INSTALL_DEVICE_NOT_CONNECTED = 21003, "The CD drive of the virtual machine is not connected";
    VIX_E_TOOLS_INSTALL_CANCELLED = 21004, "The installation of VMware Tools was cancelled";
    VIX_E_TOOLS_INSTALL_INIT_FAILED = 21005, "The installation of VMware Tools could not begin";
    VIX_E_TOOLS_INSTALL_AUTO_NOT_SUPPORTED = 21006, "VMware Tools cannot be installed unattended in this guest";
    VIX_E_TOOLS_INSTALL_GUEST_NOT_READY = 21007, "VMware Tools do not run and so cannot be upgraded";
    VIX_E_TOOLS_INSTALL_SIG_CHECK_FAILED = 21008, "The signature of the image of VMware Tools is wrong";
    VIX_E_TOOLS_INSTALL_ERROR = 21009, "The installation of VMware Tools failed";
    VIX_E_TOOLS_INSTALL_ALREADY_UP_TO_DATE = 21010, "VMware Tools are up to date already";
    VIX_E_TOOLS_INSTALL_IN_PROGRESS = 21011, "VMware Tools are being installed already";
    VIX_E_TOOLS_INSTALL_IMAGE_COPY_FAILED = 21012, "The image of VMware Tools could not be copied";
    VIX_E_WRAPPER_WORKSTATION_NOT_INSTALLED = 22001, "VMware Workstation is not installed, or its version is not configured";
    VIX_E_WRAPPER_VERSION_NOT_FOUND = 22002, "The VIX library knows the product, but not the version that is installed";
    VIX_E_WRAPPER_SERVICEPROVIDER_NOT_FOUND = 22003, "The VIX library has no part for this product";
    VIX_E_WRAPPER_PLAYER_NOT_INSTALLED = 22004, "VMware Player is not installed, or its version is not configured";
    VIX_E_WRAPPER_RUNTIME_NOT_INSTALLED = 22005, "The VIX library is not set up on this machine";
    VIX_E_WRAPPER_MULTIPLE_SERVICEPROVIDERS = 22006, "Another kind of product is in use in this process";
    VIX_E_MNTAPI_MOUNTPT_NOT_FOUND = 24000, "The mount point does not exist";
    VIX_E_MNTAPI_MOUNTPT_IN_USE = 24001, "The mount point is in use";
    VIX_E_MNTAPI_DISK_NOT_FOUND = 24002, "The disk to mount was not found";
    VIX_E_MNTAPI_DISK_NOT_MOUNTED = 24003, "The disk is not mounted";
    VIX_E_MNTAPI_DISK_IS_MOUNTED = 24004, "The disk is mounted already";
    VIX_E_MNTAPI_DISK_NOT_SAFE = 24005, "The disk cannot be mounted safely while the virtual machine uses it";
    VIX_E_MNTAPI_DISK_CANT_OPEN = 24006, "The disk to mount cannot be opened";
    VIX_E_MNTAPI_CANT_READ_PARTS = 24007, "The partition table cannot be read";
    VIX_E_MNTAPI_UMOUNT_APP_NOT_FOUND = 24008, "The program umount was not found";
    VIX_E_MNTAPI_UMOUNT = 24009, "The disk could not be unmounted";
    VIX_E_MNTAPI_NO_MOUNTABLE_PARTITONS = 24010, "The disk has no partition that can be mounted";
    VIX_E_MNTAPI_PARTITION_RANGE = 24011, "The disk has no partition of this number";
    VIX_E_MNTAPI_PERM = 24012, "Mounting is not permitted";
    VIX_E_MNTAPI_DICT = 24013, "The data about mounted disks is damaged";
    VIX_E_MNTAPI_DICT_LOCKED = 24014, "The data about mounted disks is locked";
    VIX_E_MNTAPI_OPEN_HANDLES = 24015, "The mounted disk is in use by another process";
    VIX_E_MNTAPI_CANT_MAKE_VAR_DIR = 24016, "The directory for mounted disks cannot be made";
    VIX_E_MNTAPI_NO_ROOT = 24017, "Mounting needs the rights of root";
    VIX_E_MNTAPI_LOOP_FAILED = 24018, "A loop device failed";
    VIX_E_MNTAPI_DAEMON = 24019, "The program that mounts disks did not start";
    VIX_E_MNTAPI_INTERNAL = 24020, "Mounting failed for an internal reason";
    VIX_E_MNTAPI_SYSTEM = 24021, "A system call failed";
    VIX_E_MNTAPI_NO_CONNECTION_DETAILS = 24022, "How to reach the disk is not known";
    VIX_E_MNTAPI_INCOMPATIBLE_VERSION = 24300, "The product is older than expected";
    VIX_E_MNTAPI_OS_ERROR = 24301, "The operating system reported an error";
    VIX_E_MNTAPI_DRIVE_LETTER_IN_USE = 24302, "The drive letter is taken";
    VIX_E_MNTAPI_DRIVE_LETTER_ALREADY_ASSIGNED = 24303, "The volume has a drive letter already";
    VIX_E_MNTAPI_VOLUME_NOT_MOUNTED = 24304, "The volume is not mounted";
    VIX_E_MNTAPI_VOLUME_ALREADY_MOUNTED = 24305, "The volume is mounted already";
    VIX_E_MNTAPI_FORMAT_FAILURE = 24306, "The volume could not be formatted";
    VIX_E_MNTAPI_NO_DRIVER = 24307, "A driver is missing";
    VIX_E_MNTAPI_ALREADY_OPENED = 24308, "The volume or set of disks is open already";
    VIX_E_MNTAPI_ITEM_NOT_FOUND = 24309, "A required item is missing in a file";
    VIX_E_MNTAPI_UNSUPPROTED_BOOT_LOADER = 24310, "The boot loader is not supported";
    VIX_E_MNTAPI_UNSUPPROTED_OS = 24311, "The operating system is not supported";
    VIX_E_MNTAPI_CODECONVERSION = 24312, "A text could not be converted";
    VIX_E_MNTAPI_REGWRITE_ERROR = 24313, "The registry could not be written";
    VIX_E_MNTAPI_UNSUPPORTED_FT_VOLUME = 24314, "Fault-tolerant volumes of Windows NT 4 are not supported";
    VIX_E_MNTAPI_PARTITION_NOT_FOUND = 24315, "The partition was not found";
    VIX_E_MNTAPI_PUTFILE_ERROR = 24316, "A file could not be written to the volume";
    VIX_E_MNTAPI_GETFILE_ERROR = 24317, "A file could not be read from the volume";
    VIX_E_MNTAPI_REG_NOT_OPENED = 24318, "A key of the registry could not be opened";
    VIX_E_MNTAPI_REGDELKEY_ERROR = 24319, "A key of the registry could not be deleted";
    VIX_E_MNTAPI_CREATE_PARTITIONTABLE_ERROR = 24320, "The partition table could not be made";
    VIX_E_MNTAPI_OPEN_FAILURE = 24321, "The set of disks cannot be opened";
    VIX_E_MNTAPI_VOLUME_NOT_WRITABLE = 24322, "The volume is write-protected";
    VIX_E_ASYNC_MIXEDMODE_UNSUPPORTED = 26000, "One disk was read both with and without waiting";
    VIX_E_NET_HTTP_UNSUPPORTED_PROTOCOL = 30001, "The scheme of the address is not supported";
    VIX_E_NET_HTTP_URL_MALFORMAT = 30003, "The address is malformed";
    VIX_E_NET_HTTP_COULDNT_RESOLVE_PROXY = 30005, "The name of the proxy could not be resolved";
    VIX_E_NET_HTTP_COULDNT_RESOLVE_HOST = 30006, "The name of the host could not be resolved";
    VIX_E_NET_HTTP_COULDNT_CONNECT = 30007, "The host or its proxy could not be connected to";
    VIX_E_NET_HTTP_HTTP_RETURNED_ERROR = 30022, "The host answered with an HTTP error";
    VIX_E_NET_HTTP_OPERATION_TIMEDOUT = 30028, "The host did not answer in time";
    VIX_E_NET_HTTP_SSL_CONNECT_ERROR = 30035, "No encrypted connection could be made";
    VIX_E_NET_HTTP_TOO_MANY_REDIRECTS = 30047, "The host redirected too often";
    VIX_E_NET_HTTP_TRANSFER = 30200, "The transfer of data failed";
    VIX_E_NET_HTTP_SSL_SECURITY = 30201, "The certificate of the host is not trusted";
    VIX_E_NET_HTTP_GENERIC = 30202, "The connection by HTTP failed";
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
    fn each_code_has_a_sentence_of_its_own_for_people() {
        let mut seen = std::collections::HashSet::new();
        for info in ERRORS {
            let text = info.meaning;
            assert!(text.starts_with(char::is_uppercase), "{text}");
            assert!(text.split(' ').count() > 3, "{text}");
            assert!(!text.contains(['(', ')', ':', ';']), "{text}");
            assert!(!text.ends_with('.'), "{text}");
            assert!(seen.insert(text), "{text}");
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
