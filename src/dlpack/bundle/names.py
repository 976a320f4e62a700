"""What a model is called in C and C++: an identifier that neither the language nor its library has taken."""

from __future__ import annotations

import re
from pathlib import Path

from dlpack.errors import UsageError

_KEYWORDS = frozenset(
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t char8_t class "
    "co_await co_return co_yield compl concept const const_cast consteval constexpr constinit continue decltype "
    "default delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int "
    "long main mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register "
    "reinterpret_cast requires restrict return short signed sizeof static static_assert static_cast std struct switch "
    "template this thread_local throw true try typedef typeid typename typeof union unsigned using virtual void "
    "volatile while xor xor_eq".split()
)

# Functions, variables, types and macros of C, POSIX and compilers that a model may be called after.
_C_NAMES = frozenset(
    "abort abs accept access acos acosh alarm aligned_alloc alloca asctime asin asinh assert atan atan2 atanh atexit "
    "atof atoi atol atoll basename bcmp bcopy bind brk bsearch bzero cabs calloc canonicalize cbrt ceil chdir chmod "
    "chown chroot clearerr clock clone close connect copysign cos cosh creat crypt ctime cuserid daemon difftime div "
    "dup dup2 endgrent environ erf erfc errno exec execl execv exit exp exp10 exp2 expm1 fabs fadd fclose fcntl fdim "
    "fdiv feof ferror fflush ffs fgetc fgets fileno finite flock floor fma fmax fmin fmod fmul fopen fork fprintf "
    "fputc fputs fread free freopen frexp fromfp fscanf fseek fstat fsub fsync ftell ftruncate fwrite gamma gcvt getc "
    "getchar getcwd getenv getline getopt getpid getpt gets gettid getuid getw gmtime hypot i386 ilogb index ioctl "
    "isalnum isalpha isatty isdigit isinf isnan isspace j0 j1 jn kill labs ldexp ldiv lgamma link linux listen llabs "
    "lldiv llrint llround localtime lockf log log10 log1p log2 logb lrint lround lseek lstat madvise malloc memccpy "
    "memchr memcmp memcpy memmem memmove mempcpy memset mkdir mkfifo mktemp mktime mlock mmap modf mprotect munmap nan "
    "nanosleep nearbyint nextafter nexttoward nice offsetof open optarg optind pause pclose perror pipe pixel popen "
    "pow pread printf profil putc putchar putenv puts pwrite qsort quick_exit raise rand random read readlink realloc "
    "realpath recv remainder remove remquo rename revoke rewind rindex rint rmdir round roundeven sbrk scalb scalbln "
    "scalbn scanf select send setbuf setenv setjmp setns setvbuf shutdown sigaction signal signgam significand sin "
    "sincos sinh sleep snprintf socket splice sprintf sqrt srand srandom sscanf stat stderr stdin stdout stpcpy "
    "stpncpy strcasecmp strcat strchr strcmp strcoll strcpy strcspn strdup strerror strftime strlen strncat strncmp "
    "strncpy strndup strnlen strpbrk strrchr strspn strstr strtod strtof strtok strtok_r strtol strtold strtoll "
    "strtoul strxfrm swab symlink sync syscall sysconf system tan tanh tee tempnam tgamma time times timespec timeval "
    "timezone tm tmpfile tmpnam toascii tolower toupper trunc truncate tzset uint ulong umask uname ungetc unix unlink "
    "unsetenv ushort usleep utime va_arg va_copy va_end va_list va_start valloc vector vfork vfprintf vprintf "
    "vsnprintf vsprintf wait waitpid wcslen write y0 y1 yn".split()
)
_C_PATTERN = re.compile(
    r"\w+_t|(pthread|posix|sched|sem)_\w+"
    r"|(a?(cos|sin|tan)h?|atan2|(log|exp)(2|10|1p|m1|b)?|sqrt|cbrt|pow|f?abs|floor|ceil|l?l?r(ound|int)|trunc"
    r"|f(mod|ma|max|min)|hypot|erfc?|[lt]?gamma|nan|modf|frexp|ldexp|remainder|copysign|nearbyint)[fl]"
)
"""POSIX takes these names for types and functions; the last are C's functions of float and long double."""
_MACRO_PREFIXES = frozenset("frwx")
"""unistd.h defines F_OK, R_OK, W_OK and X_OK, and the emitted header has NAME_OK."""


def _reserved(name: str) -> bool:
    """Whether a model may not have this name: a namespace is called so, and what C declares begins with it."""
    of_c = name in _C_NAMES or _C_PATTERN.fullmatch(name) is not None
    return of_c or name in _KEYWORDS or name in _MACRO_PREFIXES


def c_name(text: str) -> str:
    """A C identifier from a file name or `--name`."""
    name = re.sub(r"[^0-9A-Za-z_]+", "_", text).strip("_").lower()
    if not name or name[0].isdigit():
        name = f"net_{name}".rstrip("_")
    return f"{name}_net" if _reserved(name) else name


def bundle_name(name: str, model: Path) -> tuple[str, str]:
    """The bundle's name, from `--name` or else from the model's file, and a warning if the file's name had to be
    changed. Raises UsageError for an invalid `--name`."""
    from dlpack.exporters import model_stem

    given = name or model_stem(model)
    taken = c_name(given)
    if taken == given:
        return taken, ""
    if given.lower() in _MACRO_PREFIXES:
        reason = f"C has a macro {given.upper()}_OK, which the emitted header defines too"
    elif _reserved(given.lower()):
        reason = "it is a word of C or C++"
    else:
        reason = "C names and macros begin with it, so it is lower-case letters, digits and underscores, a letter first"
    if name:
        raise UsageError(f"--name {name!r} cannot be used: {reason}; try --name {taken}")
    return taken, f"the bundle is named {taken!r} instead of {given!r}: {reason}; use --name to choose another"
