-- A second wall, for databases that have Virtual Private Database (Enterprise Edition, and Autonomous Database
-- in OCI): whatever a statement asks, it reaches the rows of one store only, and of one tenant where the search
-- is for one. Run it once, as the owner of the tables, who needs EXECUTE on DBMS_RLS. The gateway names store
-- and tenant as the session's client identifier in any case, and no session without one reaches any row.

CREATE OR REPLACE FUNCTION regate_reach (schema_name IN VARCHAR2, table_name IN VARCHAR2) RETURN VARCHAR2 IS
BEGIN
  IF table_name = 'REGATE_CHUNKS' THEN
    RETURN 'store_key = SUBSTR(SYS_CONTEXT(''USERENV'', ''CLIENT_IDENTIFIER''), 1, 30)'
      || ' AND tenant_key = NVL(SUBSTR(SYS_CONTEXT(''USERENV'', ''CLIENT_IDENTIFIER''), 32), tenant_key)';
  END IF;
  RETURN 'store_key = SUBSTR(SYS_CONTEXT(''USERENV'', ''CLIENT_IDENTIFIER''), 1, 30)';
END;
/

BEGIN
  FOR one IN (SELECT COLUMN_VALUE AS name FROM TABLE(SYS.ODCIVARCHAR2LIST('REGATE_CHUNKS', 'REGATE_MARKS'))) LOOP
    DBMS_RLS.ADD_POLICY(
      object_schema   => USER,
      object_name     => one.name,
      policy_name     => 'REGATE_WALL',
      function_schema => USER,
      policy_function => 'REGATE_REACH',
      statement_types => 'SELECT, INSERT, UPDATE, DELETE',
      update_check    => TRUE,
      policy_type     => DBMS_RLS.STATIC);
  END LOOP;
END;
/
