/* Included in front of every unit test: libatf-c does not free what it allocates at start, which LeakSanitizer would
 * count against each program. */
#ifdef SANITIZERS
const char *__lsan_default_suppressions(void);
__attribute__((weak)) const char *__lsan_default_suppressions(void)
{
    return "leak:libatf-c\n";
}
const char *__lsan_default_options(void);
__attribute__((weak)) const char *__lsan_default_options(void)
{
    return "print_suppressions=0";
}
#endif
