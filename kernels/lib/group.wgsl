// The invocations of a workgroup.

const GROUP: u32 = 64u;
