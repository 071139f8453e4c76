/* Records what a power cut would leave: the contents of each file and the names in each directory at the last sync.
 * Load it with LD_PRELOAD; KEPT, a macro, is the directory of the records. The power is cut when a file `cut` appears in
 * it: later syncs are not recorded.
 *
 * A file or directory is identified by its inode and birth time, because inodes are reused. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int name_of(int folder, const char *path, int flags, char *name, size_t size, struct statx *found) {
    if (statx(folder, path, flags | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, found) != 0)
        return -1;
    snprintf(name, size, "%llu-%lld.%09u", (unsigned long long)found->stx_ino, (long long)found->stx_btime.tv_sec,
             found->stx_btime.tv_nsec);
    return 0;
}

static void keep_file(int file, int out) {
    char bytes[65536];
    off_t at = 0;
    ssize_t count;
    /* The descriptor may be write-only. */
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    int in = open(path, O_RDONLY | O_CLOEXEC);
    while (in >= 0 && (count = pread(in, bytes, sizeof bytes, at)) > 0) {
        if (write(out, bytes, (size_t)count) != count)
            abort();
        at += count;
    }
    if (in >= 0)
        close(in);
}

static void keep_folder(int folder, int out) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", folder);
    DIR *all = opendir(path);
    struct dirent *entry;
    while (all != NULL && (entry = readdir(all)) != NULL) {
        char name[128];
        struct statx found;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (name_of(folder, entry->d_name, 0, name, sizeof name, &found) == 0)
            dprintf(out, "%c %s %s\n", S_ISDIR(found.stx_mode) ? 'd' : 'f', name, entry->d_name);
    }
    if (all != NULL)
        closedir(all);
}

static void keep(int file) {
    char name[128], kept[4096], fresh[4112];
    struct statx found;
    if (access(KEPT "/cut", F_OK) == 0)
        return;
    if (name_of(file, "", AT_EMPTY_PATH, name, sizeof name, &found) != 0)
        return;
    snprintf(kept, sizeof kept, "%s/%s", KEPT, name);
    snprintf(fresh, sizeof fresh, "%s.%d", kept, (int)gettid());
    int out = open(fresh, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (out < 0)
        return;
    if (S_ISDIR(found.stx_mode))
        keep_folder(file, out);
    else
        keep_file(file, out);
    close(out);
    rename(fresh, kept);
}

static int sync_and_keep(const char *function, int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, function);
    int result = real(file);
    if (result == 0)
        keep(file);
    return result;
}

int fsync(int file) { return sync_and_keep("fsync", file); }

int fdatasync(int file) { return sync_and_keep("fdatasync", file); }
