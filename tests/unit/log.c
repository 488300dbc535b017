// build/tests/test_log
/* The names of -d, the mask, and where the messages go. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"

Test(log, single_names)
{
    static const struct {
        const char *name;
        u32 bit;
    } names[] = {
        {"guest_errors", LOG_GUEST_ERROR},
        {"unimp", LOG_UNIMP},
        {"int", LOG_INT},
        {"in_asm", LOG_IN_ASM},
        {"cpu_reset", LOG_CPU_RESET},
        {"mmu", LOG_MMU},
        {"pcall", LOG_PCALL},
        {"exec", LOG_EXEC},
        {"cpu", LOG_CPU},
        {"io", LOG_IO},
        {"op", LOG_OP},
        {"out_asm", LOG_OUT_ASM},
        {"firmware", LOG_FIRMWARE},
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        u32 mask = 0;
        cr_assert_eq(log_parse(names[i].name, &mask, NULL), 0, "%s", names[i].name);
        cr_assert_eq(mask, names[i].bit, "%s", names[i].name);
    }
}

Test(log, list_is_a_union)
{
    u32 mask = 0xffffffff;
    cr_assert_eq(log_parse("int,cpu_reset,int,cpu", &mask, NULL), 0);
    cr_assert_eq(mask, LOG_INT | LOG_CPU_RESET | LOG_CPU);
}

Test(log, all_is_everything)
{
    u32 mask = 0;
    cr_assert_eq(log_parse("all", &mask, NULL), 0);
    cr_assert_eq(mask & LOG_FIRMWARE, LOG_FIRMWARE);
    cr_assert_eq(mask & LOG_GUEST_ERROR, LOG_GUEST_ERROR);
}

Test(log, unknown_name_is_pointed_at)
{
    const char *list = "int,cp,unimp", *bad = NULL;
    u32 mask = 0x55;
    cr_assert_eq(log_parse(list, &mask, &bad), -EINVAL);
    cr_assert_eq(bad, list + 4, "a prefix of a name is not the name");
    cr_assert_eq(mask, 0x55, "a refused list changes nothing");

    cr_assert_eq(log_parse("cpu_resets", &mask, &bad), -EINVAL);
    cr_assert_eq(log_parse("int,", &mask, &bad), -EINVAL);
    cr_assert_eq(log_parse("", &mask, &bad), -EINVAL);
}

Test(log, help_lists_the_names, .init = cr_redirect_stdout)
{
    u32 mask = 7;
    cr_assert_eq(log_parse("help", &mask, NULL), 1);
    cr_assert_eq(mask, 7);
    fflush(stdout);
    char text[4096];
    FILE *out = cr_get_redirected_stdout();
    size_t n = fread(text, 1, sizeof text - 1, out);
    text[n] = 0;
    cr_assert_not_null(strstr(text, "guest_errors"));
    cr_assert_not_null(strstr(text, "firmware"));
    cr_assert_not_null(strstr(text, "out_asm"));
}

Test(log, only_enabled_categories_reach_the_file)
{
    char path[] = "/tmp/calque-log-XXXXXX", text[256] = "";
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(log_open(path), 0);
    log_mask = LOG_INT;
    log_printf(LOG_INT, "vector %02x\n", 0x0e);
    log_printf(LOG_UNIMP, "not this\n");
    fflush(log_stream());
    cr_assert_gt(read(fd, text, sizeof text - 1), 0);
    cr_assert_str_eq(text, "vector 0e\n");
    close(fd);
    unlink(path);
}

Test(log, arguments_are_not_evaluated_when_off)
{
    int evaluated = 0;
    log_mask = 0;
    log_printf(LOG_INT, "%d\n", ++evaluated);
    cr_assert_eq(evaluated, 0);
}

Test(log, unwritable_file_is_refused_and_the_old_stream_stays, .init = cr_redirect_stderr)
{
    FILE *before = log_stream();
    cr_assert_eq(log_open("/nonexistent-dir/log"), -ENOENT);
    cr_assert_eq(log_stream(), before);
}
