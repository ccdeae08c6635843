// The last moment before a container's program.
//
// libcontainer has prepared everything but seccomp when it executes "/proc/self/fd/3 exec
// PROGRAM ARGS…", fd 3 being a sealed copy of this file. This constructor then runs before
// the Go runtime, in one thread: it loads the filter from fd 4, which was compiled once for
// all containers, closes what the container must not see, and executes the program, looked
// up in the container's PATH. Why that failed goes to fd 5, which closes when it succeeds.
//
// Only system calls and pure functions of libc are used. The layout of fd 4 and of the
// report is mirrored by package daemon (seal.go).
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXE = 3, CONTROL = 4, REPORT = 5 };
enum stage { READ = 1, FILTER, RIGHTS, EXEC };
enum { MAGIC = 0x53504e31, LEND = 1, REAP = 2, MAX_FILTER = 4096, LAST_CAP = 63 };

struct control {
	uint32_t magic;
	uint32_t flags;  // LEND: capabilities were lent for loading the filter; REAP: stay as process 1
	uint64_t keep;   // the bounding set to leave behind
	uint32_t count;  // instructions that follow
	uint32_t unused;
};

struct report {
	uint32_t stage;
	uint32_t error;
};

static void fail(enum stage stage, int error)
{
	struct report r = {stage, (uint32_t)error};
	ssize_t n = write(REPORT, &r, sizeof r);
	(void)n; // nobody listens: the exit code tells enough
	if (stage != EXEC)
		_exit(125);
	_exit(error == ENOENT || error == ENOTDIR ? 127 : 126);
}

static const struct control *control(void)
{
	struct stat st;
	if (fstat(CONTROL, &st) != 0)
		fail(READ, errno);
	if (st.st_size < (off_t)sizeof(struct control))
		fail(READ, EINVAL);
	const struct control *c = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, CONTROL, 0);
	if (c == MAP_FAILED)
		fail(READ, errno);
	size_t need = sizeof *c + (size_t)c->count * sizeof(struct sock_filter);
	if (c->magic != MAGIC || c->count > MAX_FILTER || need > (size_t)st.st_size)
		fail(READ, EINVAL);
	return c;
}

static void load(const struct control *c)
{
	if (c->count == 0)
		return;
	struct sock_fprog program = {(unsigned short)c->count, (struct sock_filter *)(c + 1)};
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
		fail(FILTER, errno);
}

// give_back drops what was lent: without no-new-privileges only CAP_SYS_ADMIN may load a filter.
static void give_back(const struct control *c)
{
	if (!(c->flags & LEND))
		return;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned long n = 0; n <= LAST_CAP; n++) {
		if (c->keep >> n & 1 || prctl(PR_CAPBSET_READ, n, 0, 0, 0) != 1)
			continue;
		if (prctl(PR_CAPBSET_DROP, n, 0, 0, 0) != 0)
			fail(RIGHTS, errno);
	}
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];
	if (syscall(SYS_capget, &head, data) != 0)
		fail(RIGHTS, errno);
	for (int i = 0; i < 2; i++) {
		uint32_t keep = (uint32_t)(c->keep >> 32 * i);
		data[i].permitted &= keep;
		data[i].effective &= keep;
		data[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &head, data) != 0)
		fail(RIGHTS, errno);
}

static const char *path_of(char **envp)
{
	for (; *envp; envp++)
		if (strncmp(*envp, "PATH=", 5) == 0)
			return *envp + 5;
	return "";
}

// forget undoes what the server was started with: ignored signals stay ignored through every
// execve, and a program that began under nohup would pass that on to all containers.
static void forget(void)
{
	sigset_t none;
	const char standard[64] = {0}; // the kernel's struct sigaction with SIG_DFL
	// Asked of the kernel: the C library keeps 32 and 33 to itself, and make leaves them ignored.
	for (int n = 1; n < NSIG; n++)
		syscall(SYS_rt_sigaction, n, standard, NULL, 8);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

// run tries the directories of PATH in turn and returns the most telling error.
static int run(char **argv, char **envp)
{
	static char full[8192];
	if (strchr(argv[0], '/')) {
		execve(argv[0], argv, envp);
		return errno;
	}
	int found = ENOENT;
	size_t name = strlen(argv[0]);
	for (const char *dir = path_of(envp); *dir;) {
		size_t n = strcspn(dir, ":");
		if (n > 0 && n + 1 + name < sizeof full) {
			memcpy(full, dir, n);
			full[n] = '/';
			memcpy(full + n + 1, argv[0], name + 1);
			execve(full, argv, envp);
			if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
				return errno;
			if (errno == EACCES)
				found = EACCES;
		}
		dir += n + (dir[n] == ':');
	}
	return found;
}

// reap is process 1 for programs that do not care for orphans: it passes signals on to the
// program, collects whoever ends, and ends as the program does. It returns in the program's
// process only.
static void reap(void)
{
	sigset_t all, old;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid_t program = fork();
	if (program < 0)
		fail(EXEC, errno);
	if (program == 0) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		return;
	}
	close(REPORT);
	prctl(PR_SET_NAME, "init", 0, 0, 0);
	for (;;) {
		siginfo_t info;
		int sig = sigwaitinfo(&all, &info);
		if (sig > 0 && sig != SIGCHLD) {
			kill(program, sig);
			continue;
		}
		int status;
		for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
			if (pid == program)
				_exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
	}
}

__attribute__((constructor(101))) static void stub(int argc, char **argv, char **envp)
{
	if (argc < 3 || strcmp(argv[0], "/proc/self/fd/3") != 0 || strcmp(argv[1], "exec") != 0)
		return;
	if (fcntl(REPORT, F_SETFD, FD_CLOEXEC) != 0)
		_exit(125);
	forget();
	const struct control *c = control();
	close(EXE);
	close(CONTROL);
	load(c);
	give_back(c);
	if (c->flags & REAP)
		reap();
	fail(EXEC, run(argv + 2, envp));
}
