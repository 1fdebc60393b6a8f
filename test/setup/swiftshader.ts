import { requireDriver } from "./requireDriver";

export default (): Promise<void> => requireDriver("swiftshader");
