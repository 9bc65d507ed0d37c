/* Included before everything that is compiled against an old glibc, so that the result runs on older
 * ones still: glibc 2.27 and 2.29 have new versions of these functions, which differ from those of
 * 2.2.5 in the errors that they report alone. Code for the GPU has no glibc. */
#if defined(__x86_64__) && !defined(__HIP_DEVICE_COMPILE__) && !defined(__ASSEMBLER__)
__asm__(".symver exp,exp@GLIBC_2.2.5\n.symver expf,expf@GLIBC_2.2.5\n"
        ".symver exp2,exp2@GLIBC_2.2.5\n.symver exp2f,exp2f@GLIBC_2.2.5\n"
        ".symver log,log@GLIBC_2.2.5\n.symver logf,logf@GLIBC_2.2.5\n"
        ".symver log2,log2@GLIBC_2.2.5\n.symver log2f,log2f@GLIBC_2.2.5\n"
        ".symver pow,pow@GLIBC_2.2.5\n.symver powf,powf@GLIBC_2.2.5\n");
#endif
