/** What is wrong, and what to do. */
export class GclfError extends Error {}
