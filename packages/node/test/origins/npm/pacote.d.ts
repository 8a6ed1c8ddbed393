declare module 'pacote' {
  const pacote: { extract(spec: string, target: string, options: { cache: string }): Promise<unknown> };
  export default pacote;
}
