// A library that its user does not find when it is loaded, and that user (USES_ABSENT).
extern "C" int fake_absent();
#ifdef USES_ABSENT
extern "C" int uses_absent() { return fake_absent(); }
#else
extern "C" int fake_absent() { return 1; }
#endif
