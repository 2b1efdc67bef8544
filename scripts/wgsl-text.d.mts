export function bareWgsl(source: string): string;
